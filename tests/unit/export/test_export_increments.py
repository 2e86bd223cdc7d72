"""An export with its tombstones equals the index after every increment."""

from __future__ import annotations

import random
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
    live_duckdb,
    live_records,
    run_export,
)
from indexer_world import LIKE, POST, PROFILE, follow, like, post, profile, reply

from export.increment import Limits
from export.manifest import ExportFolder, FolderError, read_manifest
from feeds.opt_outs import VISIBILITY_DECLARATION
from indexer.account import set_takedown
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did
from storage.postgres.pool import Conn
from storage.private.takedowns import TakenDown
from storage.records.addresses import find_actors


def account(did: str, active: bool, status: str | None = None) -> AccountEvent:
    return AccountEvent(Did(did), active, status, 0, 1)


def test_export_of_an_empty_index_is_continued(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == {}
    [alice] = authors(1)
    _, event = alice.write(POST, post("first"))
    apply(event)
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == live_records(conn)
    assert exported_records(tmp_path).total() == 1


@pytest.mark.parametrize("seed", range(3))
def test_export_equals_the_index_after_every_increment(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any], seed: int
) -> None:
    rng = random.Random(seed)
    people = authors(6)
    posts: list[str] = []
    hidden: set[str] = set()
    for who in people:
        path, event = who.write(POST, post("hello"))
        posts.append(who.uri(path))
        apply(event)
    run_export(index_db, tmp_path)
    for _ in range(8):
        for _ in range(rng.randrange(1, 12)):
            who = rng.choice([a for a in people if a.did not in hidden])
            kind = rng.randrange(7)
            mine = [path for path in who.records if path.startswith(POST)]
            if kind == 0 and mine:
                apply(who.commit({rng.choice(mine): None}))
            elif kind == 1 and mine:
                apply(who.commit({rng.choice(mine): post(f"edit {rng.random()}")}))
            elif kind == 2:
                apply(who.write(LIKE, like(rng.choice(posts)))[1])
            elif kind == 3:
                apply(who.commit({f"{PROFILE}/self": profile(f"n{rng.random()}")}))
            elif kind == 4:
                root = rng.choice(posts)
                apply(who.write(POST, reply(root, root))[1])
            elif kind == 5:
                target = rng.choice(people).did
                apply(who.write("app.bsky.graph.follow", follow(target))[1])
            else:
                path, event = who.write(POST, post(f"new {rng.random()}"))
                posts.append(who.uri(path))
                apply(event)
        who = rng.choice(people)
        if rng.random() < 0.5 and len(hidden) < 4:
            active = who.did in hidden
            apply(account(who.did, active, None if active else "deactivated"))
            hidden ^= {who.did}
        run_export(index_db, tmp_path)
        assert exported_records(tmp_path) == live_records(conn)
        assert exported_counts(tmp_path) == live_counts(conn)


def test_export_of_many_accounts_is_done_in_parts(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    for who in authors(5):
        apply(who.write(POST, post("hello"))[1])
    seen = []
    with ExportFolder(tmp_path):
        pass
    run_export(index_db, tmp_path, limits=Limits(records=1))
    seen.append(read_manifest(tmp_path))
    assert seen[0].base is None
    assert exported_records(tmp_path) == live_records(conn)


def test_export_reads_a_long_log_in_parts(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("first"))[1])
    run_export(index_db, tmp_path)
    for number in range(6):
        apply(alice.write(POST, post(f"post {number}"))[1])
    run_export(index_db, tmp_path, limits=Limits(changes=1))
    assert read_manifest(tmp_path).increments > 3
    assert exported_records(tmp_path) == live_records(conn)


def test_export_of_a_long_log_writes_new_accounts_once(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    """The snapshot of a part is ahead of the log that it reads."""
    run_export(index_db, tmp_path)
    alice, bob = authors(2)
    paths = []
    for number in range(4):
        for who in (alice, bob):
            path, event = who.write(POST, post(f"post {number}"))
            paths.append((who, path))
            apply(event)
    who, path = paths[0]
    apply(who.commit({path: post("edited")}), paths[3][0].commit({paths[3][1]: None}))
    run_export(index_db, tmp_path, limits=Limits(changes=1, records=1))
    assert exported_records(tmp_path) == live_records(conn)
    assert max(live_duckdb(tmp_path, "posts", "did, text").values()) == 1


def test_export_starts_over_on_an_older_index(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("first"))[1])
    run_export(index_db, tmp_path)
    apply(alice.write(POST, post("second"))[1])
    conn.execute("UPDATE change_counter SET last_seq = 0")
    conn.execute("UPDATE export SET seq = 0")
    conn.commit()
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == live_records(conn)


def test_export_links_and_posts_follow_the_records(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    alice, bob = authors(2)
    path, event = alice.write(POST, post("hello", langs=["en"]))
    apply(event)
    liked, event = bob.write(LIKE, like(alice.uri(path)))
    apply(event)
    run_export(index_db, tmp_path)
    columns = "did, path, target_did, target_nsid, target_rkey"
    [link] = live_duckdb(tmp_path, "links", columns)
    assert link == (bob.did, ".subject.uri", alice.did, POST, path.split("/")[1])
    [row] = live_duckdb(tmp_path, "posts", "did, text, langs::text, created_at")
    assert row[:3] == (alice.did, "hello", "[en]")
    apply(bob.commit({liked: None}), alice.commit({path: None}))
    run_export(index_db, tmp_path)
    assert live_duckdb(tmp_path, "links", columns) == {}
    assert live_duckdb(tmp_path, "posts", "did") == {}


@pytest.mark.parametrize("value", [True, "yes", None])
def test_export_never_writes_an_account_that_opted_out(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any], value: object
) -> None:
    alice, bob = authors(2)
    declaration = {
        "$type": VISIBILITY_DECLARATION,
        "hideFromAlgorithmicRecommendations": value,
    }
    apply(bob.commit({f"{VISIBILITY_DECLARATION}/self": declaration}))
    apply(bob.write(POST, post("bobs secret"))[1])
    apply(alice.write(POST, post("hello"))[1])
    run_export(index_db, tmp_path)
    apply(bob.write(POST, post("bobs next secret"))[1])
    run_export(index_db, tmp_path)
    written = all_bytes(tmp_path)
    assert b"secret" not in written
    assert bob.did.encode() not in written
    assert alice.did.encode() in written


def test_export_removes_and_restores_an_account_with_its_wish(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("hello"))[1])
    run_export(index_db, tmp_path)
    labels = {
        "$type": "com.atproto.label.defs#selfLabels",
        "values": [{"val": "!no-unauthenticated"}],
    }
    apply(alice.commit({f"{PROFILE}/self": {**profile("a"), "labels": labels}}))
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == {}
    apply(alice.commit({f"{PROFILE}/self": profile("a")}))
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == live_records(conn)
    assert exported_records(tmp_path).total() == 2


def test_export_obeys_takedowns_of_accounts_and_records(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    alice, bob = authors(2)
    apply(alice.write(POST, post("hello"))[1])
    path, event = bob.write(POST, post("taken"))
    apply(event, bob.write(POST, post("kept"))[1])
    run_export(index_db, tmp_path)
    actors = find_actors(conn, [alice.did])
    conn.commit()
    set_takedown(conn, actors[alice.did], "spam")
    uri = bob.uri(path)
    taken = TakenDown(
        1, frozenset(), frozenset([uri]), frozenset(), frozenset([bob.did])
    )
    # An operator's decision about one record is logged as its change.
    apply(bob.commit({path: post("taken, and edited")}))
    run_export(index_db, tmp_path, taken=taken)
    [row] = exported_records(tmp_path)
    assert (row[0], "kept" in row[4]) == (bob.did, True)


def test_export_starts_over_when_the_index_does_not_know_it(
    conn: Conn, index_db: str, tmp_path: Path, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    path, event = alice.write(POST, post("hello"))
    apply(event)
    run_export(index_db, tmp_path)
    conn.execute("DELETE FROM export")
    conn.commit()
    apply(alice.commit({path: None}))
    apply(alice.write(POST, post("new"))[1])
    run_export(index_db, tmp_path)
    assert exported_records(tmp_path) == live_records(conn)
    assert len(list(tmp_path.rglob("records/*/*/*.parquet"))) == 1


def test_export_folder_has_one_writer(tmp_path: Path) -> None:
    with ExportFolder(tmp_path), pytest.raises(FolderError, match="another process"):
        ExportFolder(tmp_path).__enter__()


def test_export_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(FolderError, match=r"thesis\.docx"):
        ExportFolder(tmp_path).__enter__()


def test_export_log_is_empty_without_an_export(
    conn: Conn, apply: Callable[..., Any]
) -> None:
    [alice] = authors(1)
    apply(alice.write(POST, post("hello"))[1])
    assert conn.execute("SELECT count(*) FROM change_block").fetchone() == (0,)
