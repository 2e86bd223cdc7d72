"""A small index with posts, likes and declarations, for tests of For You."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from feeds.feedback import Feedback
from feeds.for_you.co_likes import CoLikes
from feeds.for_you.for_you_feed import FEED
from feeds.for_you.parameters import PUBLISHED
from feeds.opt_outs import VISIBILITY_DECLARATION
from feeds.skeleton import FeedRequest, SkeletonEntry
from protocol.data.cbor import encode
from storage.collections import COLLECTION_IDS, FEED_POST, LIKE_SUBJECT, RKEY_SELF
from storage.postgres.pool import Conn
from storage.private.sealing import Vault
from storage.records.addresses import Address, name_addresses_in
from storage.records.record_codec import compress

POST = COLLECTION_IDS[FEED_POST]
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
VIEWER, FRIEND, OTHER, ANNA, BERT = 1, 2, 3, 4, 5
ACCOUNT = Vault(b"secret of private state".ljust(32)).account("did:plc:viewer")


class World:
    """An index with a few accounts."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self.minutes = 0
        for number in range(1, 6):
            conn.execute("INSERT INTO actor (did) VALUES (%s)", (f"did:plc:a{number}",))

    def post(
        self, actor: int, hours_ago: float = 2.0, parent: Address | None = None
    ) -> Address:
        """Add a post with a record key of its time."""
        at = NOW - timedelta(hours=hours_ago)
        self.minutes += 1
        rkey = (round(at.timestamp() * 1_000_000) + self.minutes) << 10
        above = (parent.actor, parent.rkey) if parent else (None, None)
        self.conn.execute(
            "INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at,"
            " parent_actor, parent_rkey) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (actor, rkey, at, at, at, *above),
        )
        return Address(actor, POST, rkey)

    def like(self, actor: int, post: Address, minutes_ago: float = 30) -> None:
        self.minutes += 1
        self.conn.execute(
            "INSERT INTO link (path, actor, rkey, target_actor, target_collection,"
            " target_rkey, sort_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                *(LIKE_SUBJECT, actor, self.minutes, *post),
                NOW - timedelta(minutes=minutes_ago),
            ),
        )
        self.conn.execute(
            "INSERT INTO post_stats (actor, rkey, likes) VALUES (%s, %s, 1)"
            " ON CONFLICT (actor, rkey) DO UPDATE SET likes = post_stats.likes + 1",
            (post.actor, post.rkey),
        )

    def unlike(self, actor: int, post: Address) -> None:
        self.conn.execute(
            "DELETE FROM link WHERE actor = %s AND target_rkey = %s", (actor, post.rkey)
        )

    def declare(self, actor: int, value: Any) -> None:
        """Write a visibility declaration."""
        self.conn.execute(
            "INSERT INTO collection (nsid) VALUES (%s) ON CONFLICT DO NOTHING",
            (VISIBILITY_DECLARATION,),
        )
        self.conn.execute(
            "INSERT INTO record (actor, collection, rkey, value)"
            " SELECT %s, id, %s, %s FROM collection WHERE nsid = %s",
            (actor, RKEY_SELF, compress(encode(value)), VISIBILITY_DECLARATION),
        )

    def uri(self, post: Address) -> str:
        return name_addresses_in(self.conn, [post])[post]


PARAMETERS = replace(PUBLISHED, min_results=0)


def warm(world: World, **changes: Any) -> CoLikes:
    co_likes = CoLikes(replace(PARAMETERS, **changes), clock=NOW.timestamp)
    co_likes.read(world.conn)
    return co_likes


def page(
    world: World, co_likes: CoLikes, limit: int = 50, **request: Any
) -> list[SkeletonEntry]:
    request = {"viewer": VIEWER, "limit": limit} | request
    return FEED.build(world.conn, FeedRequest(**request, co_likes=co_likes))


def posts(entries: list[SkeletonEntry]) -> list[Address]:
    return [entry.item.post for entry in entries]


def shared(world: World) -> Address:
    """Add a post that the viewer and two others like."""
    post = world.post(ANNA)
    for actor in (VIEWER, FRIEND, OTHER):
        world.like(actor, post)
    return post


def told(world: World, **events: list[tuple[Address, datetime]]) -> Feedback:
    def micros(at: datetime) -> int:
        return round(at.timestamp() * 1_000_000)

    seen = {
        ACCOUNT.subject(world.uri(post)): micros(at)
        for post, at in events.get("seen", [])
    }
    less, more = (
        {world.uri(post): micros(at) for post, at in events.get(name, [])}
        for name in ("less", "more")
    )
    return Feedback(ACCOUNT, seen, less, more)
