"""Fetches of repos that shrank: vanished records leave every table.

Shares from 1 % to all. The default run takes every ninth share, the long run each.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from indexer_steps import assert_indexed, import_repo
from indexer_world import (
    CLOCK,
    FOLLOW,
    LIKE,
    POST,
    PROFILE,
    REPOST,
    Author,
    author,
    follow,
    like,
    post,
    profile,
    quote,
    reply,
    repost,
    written_records,
)

from protocol.data.cid import cid_for
from storage.postgres.pool import Conn
from storage.records.interning import Interner


def write_hundred(draw: random.Random, someone: Author, other: Author) -> None:
    """Write a hundred records of all kinds, on records of both accounts."""
    uris = [each.uri(path) for each in (someone, other) for path in each.records]
    uris = [uri for uri in uris if f"/{POST}/" in uri] or [other.uri(f"{POST}/3laaa")]
    changes: dict[str, Any] = {f"{PROFILE}/self": profile("Someone")}
    while len(changes.keys() | someone.records.keys()) < 96:
        nsid = draw.choice([POST, POST, LIKE, REPOST, FOLLOW, "org.example.note"])
        uri = draw.choice(uris)
        value = {
            POST: draw.choice([post("plain"), reply(uri, uri), quote(uri)]),
            LIKE: like(uri),
            REPOST: repost(uri),
            FOLLOW: follow(other.did),
            "org.example.note": {"$type": "org.example.note", "about": uri},
        }[nsid]
        changes[f"{nsid}/{CLOCK.next()}"] = value
    # Some are in the tree and cannot be kept.
    drops = {f"{POST}/{CLOCK.next()}": cid_for(b"%d" % n) for n in range(4)}
    someone.commit(changes, drops)


def held_drops(conn: Conn) -> set[tuple[str, bytes]]:
    rows = conn.execute(
        "SELECT did, path FROM dropped_record JOIN actor ON actor.id = actor"
    ).fetchall()
    return {(did, bytes(path)) for did, path in rows}


def assert_nothing_left(conn: Conn, authors: list[Author]) -> None:
    """Compare every table with the authors' current repos."""
    held = written_records(authors)
    assert held_drops(conn) == {
        (each.did, path.encode()) for each in authors for path in each.dropped
    }
    for table, nsid in (("post", POST), ("profile", PROFILE)):
        rows = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert rows == (sum(path.startswith(f"{nsid}/") for _, path in held),), table
    # An edge of a record that is gone would still be shown and counted.
    strays = conn.execute(
        "SELECT count(*) FROM link WHERE NOT EXISTS (SELECT FROM record"
        " WHERE record.actor = link.actor AND record.rkey = link.rkey)"
    ).fetchone()
    assert strays == (0,)
    assert_indexed(conn, authors)


def shrink(conn: Conn, interner: Interner, shares: Iterable[int]) -> int:
    """Grow to a hundred records, lose a share, fetch and compare; return the number of
    rounds."""
    draw = random.Random(56)
    someone, other = author(0), author(1)
    write_hundred(draw, other, someone)
    import_repo(conn, interner, other)
    done = 0
    for percent in shares:
        write_hundred(draw, someone, other)
        import_repo(conn, interner, someone)
        assert_nothing_left(conn, [someone, other])
        paths = sorted([*someone.records, *someone.dropped])
        assert len(paths) >= 100
        gone = draw.sample(paths, max(1, len(paths) * percent // 100))
        kept = [path for path in gone if path in someone.records]
        someone.commit(
            dict.fromkeys(kept), {path: None for path in gone if path not in kept}
        )
        result = import_repo(conn, interner, someone)
        assert result.changed == len(kept)
        assert_nothing_left(conn, [someone, other])
        if percent == 100:
            assert someone.records == {}
        done += 1
    return done


def test_shares_that_vanished(conn: Conn, interner: Interner) -> None:
    assert shrink(conn, interner, [1, 10, 50, 90, 99, 100]) == 6


@pytest.mark.long
def test_every_share_that_vanished(conn: Conn, interner: Interner) -> None:
    assert shrink(conn, interner, range(1, 101)) == 100
