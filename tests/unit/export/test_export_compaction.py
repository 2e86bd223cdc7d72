"""Deleted rows leave the files, and a scan proves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export_world import (
    all_bytes,
    authors,
    exported_counts,
    exported_records,
    live_counts,
    live_records,
    run_export,
)
from indexer_world import LIKE, POST, PROFILE, like, post, profile

from export.compaction import compact
from export.manifest import MANIFEST, ExportFolder, FolderError, read_manifest
from export.scan import scan_export
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did
from storage.postgres.pool import Conn


def compacted(path: Path) -> int:
    with ExportFolder(path) as folder:
        return compact(folder).rows


def test_compaction_removes_deleted_rows_from_every_byte(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    alice, bob = authors(2)
    gone, event = alice.write(POST, post("a secret text"))
    apply(event)
    edited, event = alice.write(POST, post("an old wording"))
    apply(event)
    apply(alice.commit({f"{PROFILE}/self": profile("oldname")}))
    apply(bob.write(POST, post("words of bob"))[1])
    apply(bob.write(LIKE, like(alice.uri(edited)))[1])
    run_export(index_db, tmp_path)
    apply(alice.commit({gone: None, edited: post("a new wording")}))
    apply(alice.commit({f"{PROFILE}/self": profile("newname")}))
    apply(AccountEvent(Did(bob.did), False, "deleted", 9, 1))
    run_export(index_db, tmp_path)
    assert b"a secret text" in all_bytes(tmp_path)
    assert scan_export(tmp_path).pending > 0
    assert compacted(tmp_path) > 0
    data = all_bytes(tmp_path)
    for text in (b"a secret text", b"an old wording", b"words of bob", b"oldname"):
        assert text not in data, text
    assert b"a new wording" in data
    assert exported_records(tmp_path) == live_records(conn)
    assert exported_counts(tmp_path) == live_counts(conn)
    found = scan_export(tmp_path)
    assert (found.is_sound, found.dead, found.pending) == (True, 0, 0)


def test_compaction_is_repeated_without_effect_and_increments_follow(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    path, event = alice.write(POST, post("first"))
    apply(event)
    run_export(index_db, tmp_path)
    for number in range(3):
        apply(alice.commit({path: post(f"edit {number}")}))
        run_export(index_db, tmp_path)
        compacted(tmp_path)
        assert compacted(tmp_path) == 0
        assert exported_records(tmp_path) == live_records(conn)
        assert scan_export(tmp_path).is_sound


def test_scan_reports_rows_that_should_have_gone(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    path, event = alice.write(POST, post("first"))
    apply(event)
    run_export(index_db, tmp_path, promise_hours=1.0)
    apply(alice.commit({path: None}))
    run_export(index_db, tmp_path)
    assert scan_export(tmp_path).is_sound
    later = scan_export(tmp_path, now=time.time() + 2 * 3600)
    assert not later.is_sound
    assert later.dead > 0


def test_export_compacts_when_half_of_the_promised_hours_are_over(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    path, event = alice.write(POST, post("short-lived"))
    apply(event)
    run_export(index_db, tmp_path, promise_hours=1e-9)
    apply(alice.commit({path: None}))
    run_export(index_db, tmp_path)
    assert b"short-lived" not in all_bytes(tmp_path)
    assert read_manifest(tmp_path).pending_since is None


@pytest.mark.parametrize("fault", ["changed", "missing", "stray"])
def test_scan_reports_files_that_differ(
    index_db: str, tmp_path: Path, apply: Callable[..., Any], fault: str
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("first"))[1])
    run_export(index_db, tmp_path)
    [path] = tmp_path.glob("posts/*/*.parquet")
    if fault == "changed":
        path.write_bytes(path.read_bytes() + b"x")
    elif fault == "missing":
        path.unlink()
    else:
        path.with_name("part-9-9.parquet").write_bytes(b"")
    found = scan_export(tmp_path)
    assert len(found.faults) == 1
    assert not found.is_sound


def test_scan_refuses_a_folder_that_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(FolderError):
        scan_export(tmp_path)


def test_export_continues_behind_a_line_without_its_end(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("first"))[1])
    run_export(index_db, tmp_path)
    with (tmp_path / MANIFEST).open("ab") as file:
        file.write(b'{"kind":"incr')
    (tmp_path / "records" / "part-7-9.parquet.draft").write_bytes(b"half")
    apply(alice.write(POST, post("second"))[1])
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == live_records(conn)
    assert scan_export(tmp_path).is_sound
