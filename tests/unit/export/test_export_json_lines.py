"""The export as events in the form of Jetstream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export_world import authors, run_export
from indexer_world import POST, post

from export.compaction import compact
from export.json_lines import JSON_LINES, read_lines
from export.manifest import ExportFolder, read_manifest
from export.scan import scan_export
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did


def events_of(path: Path) -> list[dict[str, Any]]:
    parts = sorted(read_manifest(path).parts.values(), key=lambda part: part.last)
    return [json.loads(line) for part in parts for line in read_lines(path / part.path)]


def test_json_lines_replay_to_the_records_in_force(
    index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    alice, bob = authors(2)
    gone, event = alice.write(POST, post("a secret text"))
    apply(event)
    kept, event = alice.write(POST, post("an old wording"))
    apply(event)
    apply(bob.write(POST, post("words of bob"))[1])
    run_export(index_db, tmp_path, format=JSON_LINES)
    apply(alice.commit({gone: None, kept: post("a new wording")}))
    apply(AccountEvent(Did(bob.did), False, "deactivated", 0, 1))
    run_export(index_db, tmp_path)
    state: dict[tuple[str, str], str] = {}
    for event in events_of(tmp_path):
        commit = event.get("commit")
        if event["kind"] == "account":
            assert event["account"]["active"] is False
            state = {key: v for key, v in state.items() if key[0] != event["did"]}
        elif commit and commit["operation"] == "delete":
            del state[event["did"], commit["rkey"]]
        elif commit:
            state[event["did"], commit["rkey"]] = commit["record"]["text"]
    assert state == {(alice.did, kept.split("/")[1]): "a new wording"}
    commits = [event["commit"] for event in events_of(tmp_path) if "commit" in event]
    operations = [commit["operation"] for commit in commits]
    assert operations == ["create", "create", "create", "update", "delete"]
    assert all(len(commit["rev"]) == 13 for commit in commits)
    times = [event["time_us"] for event in events_of(tmp_path)]
    assert times == sorted(set(times))
    assert scan_export(tmp_path).pending == 3


def test_json_lines_lose_replaced_events(
    index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    alice, bob = authors(2)
    gone, event = alice.write(POST, post("a secret text"))
    apply(event)
    apply(bob.write(POST, post("words of bob"))[1])
    run_export(index_db, tmp_path, format=JSON_LINES)
    apply(alice.commit({gone: None}))
    apply(AccountEvent(Did(bob.did), False, "deactivated", 0, 1))
    run_export(index_db, tmp_path)
    with ExportFolder(tmp_path) as folder:
        assert compact(folder).rows == 2
        assert compact(folder).rows == 0
    text = json.dumps(events_of(tmp_path))
    assert "secret" not in text
    assert "words of bob" not in text
    found = scan_export(tmp_path)
    assert (found.is_sound, found.pending) == (True, 0)
    assert not list(tmp_path.rglob("*.draft"))
