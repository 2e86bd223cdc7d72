"""A repo that shrank while nobody looked: what vanished is gone from every table.

From one record in a hundred to all of them. The default run takes every ninth share,
the long run each.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from indexer_world import (
    CLOCK,
    FOLLOW,
    LIKE,
    NOW,
    POST,
    PROFILE,
    REPOST,
    Author,
    author,
    expected_actor_counts,
    expected_post_counts,
    follow,
    held_actor_counts,
    held_post_counts,
    held_records,
    like,
    post,
    profile,
    quote,
    reply,
    repo_row,
    repost,
    written_records,
)

from audit.repo_audit import audit_repo, recount_stats
from indexer.repos.checkout import Checkout, CheckoutResult
from protocol.data.cid import cid_for
from storage.postgres.pool import Conn
from storage.records.interning import Interner


def write_hundred(draw: random.Random, someone: Author, other: Author) -> None:
    """A hundred records of all kinds, on records of both accounts."""
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


def fetch(conn: Conn, interner: Interner, someone: Author) -> CheckoutResult:
    with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
        checkout.add(someone.repo_records())
        checkout.drop(someone.repo_drops())
        return checkout.finish(someone.head())


def held_drops(conn: Conn) -> set[tuple[str, bytes]]:
    rows = conn.execute(
        "SELECT did, path FROM dropped_record JOIN actor ON actor.id = actor"
    ).fetchall()
    return {(did, bytes(path)) for did, path in rows}


def assert_nothing_left(conn: Conn, authors: list[Author]) -> None:
    """Every table, against what the authors' repos hold now."""
    held = written_records(authors)
    assert held_records(conn) == held
    assert held_drops(conn) == {
        (each.did, path.encode()) for each in authors for path in each.dropped
    }
    assert held_post_counts(conn) == expected_post_counts(authors)
    assert held_actor_counts(conn) == expected_actor_counts(authors)
    for table, nsid in (("post", POST), ("profile", PROFILE)):
        rows = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert rows == (sum(path.startswith(f"{nsid}/") for _, path in held),), table
    # An edge of a record that is gone would still be shown and counted.
    strays = conn.execute(
        "SELECT count(*) FROM link WHERE NOT EXISTS (SELECT FROM record"
        " WHERE record.actor = link.actor AND record.rkey = link.rkey)"
    ).fetchone()
    assert strays == (0,)
    conn.rollback()
    assert recount_stats(conn).ok
    for each in authors:
        assert audit_repo(conn, each.did).ok
        assert repo_row(conn, each.did) == ("synchronized", each.rev, each.data)


def shrink(conn: Conn, interner: Interner, shares: Iterable[int]) -> int:
    """Grow to a hundred records, lose a share, fetch, look; how often that was."""
    draw = random.Random(56)
    someone, other = author(0), author(1)
    write_hundred(draw, other, someone)
    fetch(conn, interner, other)
    done = 0
    for percent in shares:
        write_hundred(draw, someone, other)
        fetch(conn, interner, someone)
        assert_nothing_left(conn, [someone, other])
        paths = sorted([*someone.records, *someone.dropped])
        assert len(paths) >= 100
        gone = draw.sample(paths, max(1, len(paths) * percent // 100))
        kept = [path for path in gone if path in someone.records]
        someone.commit(
            dict.fromkeys(kept), {path: None for path in gone if path not in kept}
        )
        result = fetch(conn, interner, someone)
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
