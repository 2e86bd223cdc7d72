"""The log of changed addresses: who writes it, and what a new export waits for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from export_world import (
    authors,
    exported_counts,
    exported_records,
    live_counts,
    live_duckdb,
    live_records,
    run_export,
)
from indexer_world import LIKE, POST, like, post

from audit.repo_audit import recount_stats
from storage import change_log
from storage.change_log import CHANGED, CREATED, ENTRY, merge_entries
from storage.postgres.pool import Conn


def test_new_export_waits_for_older_transactions(conn: Conn, index_db: str) -> None:
    """A transaction that began before the export has logged nothing."""
    with psycopg.connect(index_db) as writer:
        writer.execute("INSERT INTO actor (did) VALUES ('did:web:old.test')")
        with pytest.raises(TimeoutError):
            change_log.add_reader(conn, "first", patience_s=0.1)
        assert conn.execute("SELECT count(*) FROM export").fetchone() == (0,)
        conn.commit()
        done: list[int] = []

        def register() -> None:
            with psycopg.connect(index_db) as other:
                done.append(change_log.add_reader(other, "second").id)

        thread = threading.Thread(target=register)
        thread.start()
        thread.join(0.3)
        assert not done
        writer.commit()
        thread.join(30)
    assert done


def test_blocks_that_commit_late_are_read_once(conn: Conn, index_db: str) -> None:
    reader = change_log.add_reader(conn, "one")
    with psycopg.connect(index_db) as slow:
        change_log.log_accounts(slow, [1])
        change_log.log_accounts(conn, [2])
        conn.commit()
        seen, seq = read(conn, reader.seq)
        assert seen == {2}
        slow.commit()
    more, _ = read(conn, seq)
    assert more == {1}


def read(conn: Conn, after: int) -> tuple[set[int], int]:
    """Number and read what is committed, as an increment does."""
    blocks = change_log.unnumbered_blocks(conn)
    conn.commit()
    numbers, seq = change_log.number_blocks(conn, blocks)
    entries, end = change_log.read_blocks(conn, after, numbers, 1_000)
    conn.commit()
    assert end is None
    return set(entries["actor"].tolist()), seq


def test_merged_entries_keep_all_that_happened() -> None:
    rows = [(2, 1, 5, CREATED), (1, 1, 9, CHANGED), (2, 1, 5, CHANGED), (1, 1, 8, 8)]
    merged = merge_entries(np.array(rows, ENTRY))
    assert merged.tolist() == [(1, 1, 8, 8), (1, 1, 9, CHANGED), (2, 1, 5, 3)]


def test_log_ends_when_its_last_export_is_forgotten(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("first"))[1])
    run_export(index_db, tmp_path)
    apply(alice.write(POST, post("second"))[1])
    assert conn.execute("SELECT count(*) > 0 FROM change_block").fetchone() == (True,)
    conn.execute("UPDATE export SET seen_at = now() - interval '8 days'")
    conn.commit()
    assert change_log.forget_idle_readers(conn) == 1
    for table in ("export", "export_account", "change_block"):
        found = conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert found == (0,), table
    conn.commit()
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == live_records(conn)


def test_two_folders_follow_one_index(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    path, event = alice.write(POST, post("first"))
    apply(event)
    run_export(index_db, tmp_path / "a")
    apply(alice.write(POST, post("second"))[1])
    run_export(index_db, tmp_path / "b")
    apply(alice.commit({path: None}))
    run_export(index_db, tmp_path / "a")
    assert exported_records(tmp_path / "a") == live_records(conn)
    run_export(index_db, tmp_path / "b")
    assert exported_records(tmp_path / "b") == live_records(conn)


def test_older_copy_of_a_folder_starts_over(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    """Changes that its manifest lacks are no longer in the log."""
    [alice] = authors(1)
    path, event = alice.write(POST, post("first"))
    apply(event)
    run_export(index_db, tmp_path / "now")
    shutil.copytree(tmp_path / "now", tmp_path / "copy")
    apply(alice.commit({path: None}))
    apply(alice.write(POST, post("second"))[1])
    run_export(index_db, tmp_path / "now")
    run_export(index_db, tmp_path / "copy")
    assert exported_records(tmp_path / "copy") == live_records(conn)


def test_corrected_counts_reach_the_export(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    alice, bob = authors(2)
    path, event = alice.write(POST, post("liked"))
    apply(event, bob.write(LIKE, like(alice.uri(path)))[1])
    conn.execute("UPDATE post_stats SET likes = 7")
    conn.execute("UPDATE actor_stats SET posts = 9")
    conn.commit()
    run_export(index_db, tmp_path)
    wrong = live_duckdb(tmp_path, "stats", "did, nsid, likes, posts")
    assert (alice.did, POST, 7, None) in wrong
    recount_stats(conn, repair=True)
    run_export(index_db, tmp_path)
    right = live_duckdb(tmp_path, "stats", "did, nsid, likes, posts")
    assert (alice.did, POST, 1, None) in right
    assert (alice.did, "", None, 1) in right
    assert exported_counts(tmp_path) == live_counts(conn)


def test_restored_index_starts_its_exports_over(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("first"))[1])
    run_export(index_db, tmp_path)
    change_log.forget_all_readers(conn)
    assert not change_log.is_followed(conn)
    conn.commit()
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == live_records(conn)
