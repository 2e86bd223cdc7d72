"""Posts and reposts of an account, newest first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from appview.hydration.records import POST, load_records
from appview.hydration.state import State, answer_allowance, profile_address
from appview.paging import Entry, Keyset
from appview.session import Session
from feeds.skeleton import SkeletonItem
from storage.collections import COLLECTION_IDS, FEED_REPOST, REPOST_SUBJECT
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses

_REPOST: Final = COLLECTION_IDS[FEED_REPOST]
_IMAGES, _VIDEO = 1, 2  # bits of post.media
END: Final = 253_402_300_799_000_000
_MAX_ANCESTORS: Final = 5_000
AUTHOR_THREADS: Final = "posts_and_author_threads"
_OWN_POSTS_ONLY: Final = frozenset({"posts_with_media", "posts_with_video"})
_CONDITIONS: Final = {
    "posts_no_replies": "AND parent_actor IS NULL",
    "posts_with_media": f"AND media & {_IMAGES} <> 0",
    "posts_with_video": f"AND media & {_VIDEO} <> 0",
    AUTHOR_THREADS: "AND (parent_actor IS NULL OR root_actor = actor)",
}


def fetch_author_feed(
    conn: Conn,
    actor: int,
    wanted: str,
    left_out: Address | None,
    after: Keyset | None,
    limit: int,
) -> list[Entry[SkeletonItem]]:
    at, rkey, collection = after or (END, 0, 0)
    reposts = "false" if wanted in _OWN_POSTS_ONLY else "true"
    rows = conn.execute(
        f"""
        SELECT micros, rkey, collection, post_actor, post_rkey FROM (
            (SELECT {micros_sql("sort_at")} AS micros, rkey, %(post)s AS collection,
                    actor AS post_actor, rkey AS post_rkey
             FROM post
             WHERE actor = %(actor)s {_CONDITIONS.get(wanted, "")}
               AND (sort_at, rkey, %(post)s) < (%(moment)s, %(rkey)s, %(collection)s)
             ORDER BY sort_at DESC, rkey DESC LIMIT %(limit)s)
            UNION ALL
            (SELECT {micros_sql("sort_at")}, rkey, %(repost)s, target_actor, target_rkey
             FROM link r
             WHERE {reposts} AND path = %(reposted)s AND actor = %(actor)s
               AND target_collection = %(post)s
               AND (sort_at, rkey, %(repost)s) < (%(moment)s, %(rkey)s, %(collection)s)
               AND NOT EXISTS (
                   SELECT FROM link o
                   WHERE o.path = r.path AND o.actor = r.actor
                     AND o.target_rkey = r.target_rkey
                     AND o.target_actor = r.target_actor
                     AND o.target_collection = r.target_collection
                     AND (o.sort_at, o.rkey) < (r.sort_at, r.rkey))
             ORDER BY sort_at DESC, rkey DESC LIMIT %(limit)s)
        ) entries
        WHERE (post_actor, post_rkey) IS DISTINCT FROM (%(left_actor)s, %(left_rkey)s)
        ORDER BY micros DESC, rkey DESC, collection DESC LIMIT %(page)s
        """,
        {
            "actor": actor,
            "post": POST,
            "repost": _REPOST,
            "reposted": REPOST_SUBJECT,
            "moment": from_micros(at),
            "rkey": rkey,
            "collection": collection,
            # One entry may be left out of the inner queries.
            "limit": limit + 1,
            "page": limit,
            "left_actor": left_out.actor if left_out else 0,
            "left_rkey": left_out.rkey if left_out else 0,
        },
    )
    return [
        Entry(
            SkeletonItem(
                Address(post_actor, POST, post_rkey),
                Address(actor, _REPOST, key) if kind == _REPOST else None,
            ),
            [micros, key, kind],
        )
        for micros, key, kind, post_actor, post_rkey in rows
    ]


def find_pin(session: Session, actor: int) -> Address | None:
    """Return the post of its own that an account has pinned."""
    profile = profile_address(actor)
    record = load_records(session.conn, [profile], answer_allowance()).get(profile)
    pinned = record.value.get("pinnedPost") if record else None
    uri = pinned.get("uri") if isinstance(pinned, dict) else None
    if not isinstance(uri, str):
        return None
    found = find_addresses(session.conn, [uri]).get(uri)
    own = found is not None and (found.actor, found.collection) == (actor, POST)
    return found if own else None


def find_self_threads(
    state: State, author: int, posts: Collection[Address]
) -> set[Address]:
    """Return the posts in threads of their author alone, up to the root.

    A reply counts if its parent does, exists and is the author's.
    """
    parents = {address: state.posts[address].parent for address in posts}
    above = {p for p in parents.values() if p is not None and p.actor == author}
    parents |= _find_ancestors(state.session.conn, author, above - parents.keys())
    return {post for post in posts if _reaches_root(post, parents)}


def _reaches_root(post: Address, parents: Mapping[Address, Address | None]) -> bool:
    passed: set[Address] = set()
    each: Address | None = post
    while each is not None:
        if each in passed or each not in parents:
            return False
        passed.add(each)
        each = parents[each]
    return True


def _find_ancestors(
    conn: Conn, author: int, posts: Collection[Address]
) -> dict[Address, Address | None]:
    """Return posts with their parents, upwards while they are the author's own."""
    if not posts:
        return {}
    rows = conn.execute(
        """
        WITH RECURSIVE above AS (
            SELECT rkey, parent_actor, parent_rkey FROM post
            WHERE actor = %(author)s AND rkey = ANY(%(rkeys)s)
            UNION
            SELECT p.rkey, p.parent_actor, p.parent_rkey
            FROM above a JOIN post p ON p.actor = %(author)s AND p.rkey = a.parent_rkey
            WHERE a.parent_actor = %(author)s
        )
        SELECT rkey, parent_actor, parent_rkey FROM above LIMIT %(most)s
        """,
        {"author": author, "rkeys": [a.rkey for a in posts], "most": _MAX_ANCESTORS},
    )
    return {
        Address(author, POST, rkey): (
            None if actor is None else Address(actor, POST, parent)
        )
        for rkey, actor, parent in rows
    }
