"""An export that is killed at any step goes on without lost or doubled rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import export_child
import pytest
from export_world import (
    authors,
    exported_counts,
    exported_records,
    live_counts,
    live_duckdb,
    live_records,
)
from indexer_world import LIKE, POST, follow, like, post

from export.scan import scan_export
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did
from storage.postgres.pool import Conn

_KILLS: Final = 20
Run = Callable[[Path, int], int]


@pytest.fixture
def run(index_db: str) -> Iterator[Run]:
    """Return a function that exports to a folder in a process of its own.

    The process is killed at a step (0: never); its exit code is returned.
    """
    root = str(Path(__file__).parents[3])
    child = subprocess.Popen(
        [sys.executable, export_child.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    writer, reader = child.stdin, child.stdout

    def export(path: Path, step: int) -> int:
        writer.write(f"{index_db} {path} {step}\n")
        writer.flush()
        return int(reader.readline())

    yield export
    writer.close()
    child.wait(30)
    reader.close()


@pytest.mark.slow
def test_export_killed_at_twenty_steps_loses_and_doubles_nothing(
    conn: Conn,
    tmp_path: Path,
    apply: Callable[..., Any],
    run: Callable[[Path, int], int],
) -> None:
    people = authors(5)
    posts = []
    for who in people:
        for number in range(3):
            path, event = who.write(POST, post(f"post {number}"))
            posts.append((who, path))
            apply(event)
    assert run(tmp_path / "measured", 0) == 0
    steps = int((tmp_path / "measured.steps").read_text())
    conn.execute("DELETE FROM export")
    conn.commit()
    target = tmp_path / "export"
    killed = 0
    for turn in range(_KILLS):
        code = run(target, 1 + turn * steps // _KILLS)
        killed += code == -9
        who, path = posts.pop(0) if turn % 2 else posts[0]
        if turn % 2:
            apply(who.commit({path: None}))
        else:
            apply(who.commit({path: post(f"edited in turn {turn}")}))
        other = people[turn % 5]
        apply(other.write(LIKE, like(who.uri(path)))[1])
        apply(other.write("app.bsky.graph.follow", follow(who.did))[1])
        if turn == _KILLS // 2:
            apply(AccountEvent(Did(people[4].did), False, "deactivated", 0, 1))
    assert killed >= _KILLS * 3 // 4
    assert run(target, 0) == 0
    assert exported_records(target) == live_records(conn)
    assert exported_counts(target) == live_counts(conn)
    found = scan_export(target)
    assert found.is_sound, found.faults
    assert max(live_duckdb(target, "links", "did, nsid, rkey, path").values()) == 1
