"""Steps and checks shared by tests of the index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from indexer_world import (
    CLOCK,
    CREATED,
    FOLLOW,
    KEY,
    LIKE,
    NOW,
    NOW_US,
    POST,
    PROFILE,
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
    reference,
    reply,
    repo_row,
    written_records,
)

from audit.repo_audit import audit_repo, recount_stats
from indexer.batch import BatchResult
from indexer.repos.checkout import Checkout, CheckoutResult
from indexer.repos.repo_batch import FetchedRepo
from protocol.data.cid import cid_for
from protocol.events.event import AccountEvent
from protocol.mst import build_nodes
from protocol.repo.car import car_block, car_header
from protocol.repo.repo_diff import RepoDiff, read_diff
from storage.postgres.pool import Conn
from storage.records.interning import Interner


def import_repo(
    conn: Conn, interner: Interner, someone: Author, *, chunk: int = 1_000
) -> CheckoutResult:
    """Import an author's whole repo in its current state."""
    records = someone.repo_records()
    with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
        for start in range(0, len(records), chunk):
            checkout.add(records[start : start + chunk])
        checkout.drop(someone.repo_drops())
        return checkout.finish(someone.head())


def claim(conn: Conn, interner: Interner, *authors: Author) -> None:
    """Mark repos as claimed for a fetch."""
    for actor in interner.actors(one.did for one in authors).values():
        conn.execute(
            "INSERT INTO repo (actor, host, state, lease_until)"
            " VALUES (%s, 1, 'resyncing', now() + interval '1 hour')"
            " ON CONFLICT (actor) DO UPDATE SET state = 'resyncing',"
            " lease_until = excluded.lease_until",
            (actor,),
        )
    conn.commit()


def state_of(conn: Conn, someone: Author) -> str | None:
    """Return the state of a repo, None if there is none."""
    row = conn.execute(
        "SELECT state FROM repo JOIN actor ON id = actor WHERE did = %s", (someone.did,)
    ).fetchone()
    conn.rollback()
    return None if row is None else row[0]


def assert_indexed(conn: Conn, authors: list[Author]) -> None:
    """Check that the index holds what the authors wrote, with exact counts."""
    assert held_records(conn) == written_records(authors)
    assert held_post_counts(conn) == expected_post_counts(authors)
    assert held_actor_counts(conn) == expected_actor_counts(authors)
    conn.rollback()
    assert recount_stats(conn).ok
    for one in authors:
        assert audit_repo(conn, one.did).ok
        assert repo_row(conn, one.did) == ("synchronized", one.rev, one.data)
        conn.rollback()


Apply = Callable[..., BatchResult]
Fetch = Callable[..., CheckoutResult]


def all_kinds(someone: Author, other: Author, target: str) -> dict[str, Any]:
    """Write a record of every collection with rows or edges of its own."""
    own_list = someone.uri("app.bsky.graph.list/3laaaaaaaaa22")
    gate = {"post": target, "createdAt": CREATED}

    def record(nsid: str, **fields: Any) -> dict[str, Any]:
        return {"$type": nsid, "createdAt": CREATED, **fields}

    return {
        f"{PROFILE}/self": profile("Somebody"),
        f"{POST}/3laaaaaaaaa22": post("plain words", langs=["en"]),
        f"{POST}/3laaaaaaaaa23": reply(target, target, "answered words"),
        f"{POST}/3laaaaaaaaa24": quote(target, "quoting words"),
        f"{LIKE}/3laaaaaaaaa22": like(target),
        f"{LIKE}/3laaaaaaaaa23": like(target),
        f"{FOLLOW}/3laaaaaaaaa22": follow(other.did),
        "app.bsky.feed.repost/3laaaaaaaaa22": record(
            "app.bsky.feed.repost", subject=reference(target)
        ),
        "app.bsky.graph.block/3laaaaaaaaa22": record(
            "app.bsky.graph.block", subject=other.did
        ),
        "app.bsky.graph.list/3laaaaaaaaa22": record(
            "app.bsky.graph.list",
            name="friends",
            purpose="app.bsky.graph.defs#curatelist",
        ),
        "app.bsky.graph.listitem/3laaaaaaaaa22": record(
            "app.bsky.graph.listitem", list=own_list, subject=other.did
        ),
        "app.bsky.graph.listblock/3laaaaaaaaa22": record(
            "app.bsky.graph.listblock", subject=own_list
        ),
        "app.bsky.graph.starterpack/3laaaaaaaaa22": record(
            "app.bsky.graph.starterpack", name="begin here", list=own_list
        ),
        "app.bsky.feed.generator/3laaaaaaaaa22": record(
            "app.bsky.feed.generator", did=other.did, displayName="cats"
        ),
        "app.bsky.feed.threadgate/3laaaaaaaaa22": record(
            "app.bsky.feed.threadgate", **gate
        ),
        "app.bsky.feed.postgate/3laaaaaaaaa22": record(
            "app.bsky.feed.postgate", **gate
        ),
        "app.bsky.labeler.service/self": record("app.bsky.labeler.service"),
        "org.example.note/3laaaaaaaaa22": record(
            "org.example.note", title="A note", body="noted words", about=target
        ),
        "app.bsky.feed.threadgate/3laaaaaaaaa24": record("app.bsky.feed.threadgate"),
    }


def actor_id(conn: Conn, did: str) -> int:
    row = conn.execute("SELECT id FROM actor WHERE did = %s", (did,)).fetchone()
    conn.rollback()
    assert row is not None
    return int(row[0])


def leave(conn: Conn, apply: Apply, someone: Author, status: str = "deleted") -> int:
    apply(AccountEvent(someone.did, False, status, 99, 1))  # type: ignore[arg-type]
    return actor_id(conn, someone.did)


def fetched_repo(someone: Author) -> FetchedRepo:
    """Return an author's repo as a fetch yields it."""
    return FetchedRepo(
        someone.did,  # type: ignore[arg-type]
        someone.host,
        someone.head(),
        someone.repo_records(),
        someone.repo_drops(),
    )


def blocks_of(someone: Author) -> dict[bytes, bytes]:
    """Return the nodes and records of an author's tree, by CID."""
    cids = {path.encode(): cid_for(raw) for path, raw in someone.records.items()}
    cids |= {path.encode(): cid for path, cid in someone.dropped.items()}
    blocks = {node.cid: node.raw for node in build_nodes(sorted(cids.items()))}
    return blocks | {cid_for(raw): raw for raw in someone.records.values()}


def car_of(someone: Author, blocks: Mapping[bytes, bytes]) -> bytes:
    """Return a CAR of an author's commit with these blocks."""
    commit = cid_for(someone.signed)
    car = car_header(commit) + car_block(commit, someone.signed)
    return car + b"".join(car_block(*block) for block in blocks.items())


def diff_of(someone: Author, blocks: Mapping[bytes, bytes]) -> RepoDiff:
    """Return a verified difference of these blocks."""
    car = car_of(someone, blocks)
    return read_diff(car, someone.did, KEY.public, NOW_US)  # type: ignore[arg-type]


def written_author(number: int = 0, posts: int = 20) -> Author:
    """Create an author with a profile, posts and a note."""
    someone = author(number)
    writes: dict[str, Any] = {f"{PROFILE}/self": profile("Someone")}
    for index in range(posts):
        writes[f"{POST}/{CLOCK.next()}"] = post(f"post {index}")
    writes["org.example.note/first-note"] = {"$type": "org.example.note", "text": "n"}
    someone.commit(writes)
    return someone
