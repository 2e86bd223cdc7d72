"""A post, the posts above it, and the replies below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appview.hydration.records import POST
from appview.pipeline import Params
from appview.session import Session
from network.xrpc.server import XrpcError
from protocol.syntax import parse_at_uri
from storage.collections import REPLY_PARENT
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses
from storage.records.links import partition_of

MAX_THREAD_POSTS = 1_000
"""Posts of one answer; a larger thread shows its most recent branches first."""
MAX_REPLIES_A_POST = 200
MAX_RANKED_REPLIES = 2_000
"""Newest replies of which the most liked ones are chosen."""
MAX_DEPTH = 40
MAX_PARENTS = 80
_BY_LIKES = """
    LEFT JOIN post_stats s ON s.rkey = n.rkey AND s.actor = n.actor
    ORDER BY coalesce(s.likes, 0) DESC, n.sort_at DESC, n.rkey DESC
"""


def find_post(session: Session, uri: str) -> Address | None:
    """Return the address of a record by AT-URI, with a DID or a handle."""
    parsed = parse_at_uri(uri)
    did = session.find_did(str(parsed.authority))
    if did is None or parsed.rkey is None:
        return None
    plain = f"at://{did}/{parsed.collection}/{parsed.rkey}"
    return find_addresses(session.conn, [plain]).get(plain)


@dataclass(frozen=True, slots=True)
class Thread:
    """A post, its parents from below, and the replies by parent.

    Posts at the depth limit have no entry in `replies`. Each post is there once.
    """

    post: Address
    parents: list[Address]
    replies: dict[Address, list[Address]]


def find_thread(session: Session, params: Params) -> Thread:
    post = find_post(session, params["uri"])
    if post is None or post.collection != POST:
        raise post_not_found(params)
    depth = min(params["depth"], MAX_DEPTH)
    height = min(params["parentHeight"], MAX_PARENTS)
    parents = find_parents(session, post, height)
    replies = find_replies(session, post, depth, parents)
    return Thread(post, parents, replies)


def post_not_found(params: Params) -> XrpcError:
    """Return the error for a post that is not there or not shown."""
    return XrpcError("NotFound", f"Post not found: {params['uri']}", 400)


def find_parents(session: Session, post: Address, height: int) -> list[Address]:
    """Return the posts above one, from below."""
    rows = session.conn.execute(
        """
        WITH RECURSIVE above(actor, rkey, parent_actor, parent_rkey, height) AS (
            SELECT actor, rkey, parent_actor, parent_rkey, 0 FROM post
            WHERE actor = %s AND rkey = %s
            UNION ALL
            SELECT p.actor, p.rkey, p.parent_actor, p.parent_rkey, a.height + 1
            FROM above a
            JOIN post p ON p.actor = a.parent_actor AND p.rkey = a.parent_rkey
            WHERE a.height < %s
        )
        SELECT parent_actor, parent_rkey FROM above
        WHERE parent_actor IS NOT NULL AND height < %s ORDER BY height
        """,
        (post.actor, post.rkey, height, height),
    )
    parents: dict[Address, None] = {}
    for actor, rkey in rows:
        parent = Address(actor, POST, rkey)
        if parent == post or parent in parents:
            break  # a ring of posts
        parents[parent] = None
    return [*parents]


@dataclass(frozen=True, slots=True)
class Choice:
    """The replies of a post that a thread takes if there are more.

    `first` is their number below the requested post, `deeper` below others.
    """

    first: int = MAX_REPLIES_A_POST
    deeper: int = MAX_REPLIES_A_POST
    oldest: bool = False
    most_liked: bool = False
    """Below the requested post: those with most likes instead of the newest."""


NEWEST = Choice()


def find_replies(
    session: Session,
    post: Address,
    depth: int,
    seen: Iterable[Address] = (),
    choice: Choice = NEWEST,
    sequels: Mapping[Address, Address] = {},
) -> dict[Address, list[Address]]:
    """Return replies by parent, one query a level, without the posts in `seen`.

    `sequels` are replies that are taken in any case, by parent.
    """
    found: dict[Address, list[Address]] = {}
    taken = {post, *seen}
    level, total = [post], 1
    for number in range(depth):
        if not level or total >= MAX_THREAD_POSTS:
            break
        session.context.check_client()
        found |= {each: [] for each in level}
        pairs = [(each, sequels[each]) for each in level if each in sequels]
        pairs += _find_level(session.conn, level, choice, is_first=number == 0)
        level = []
        for parent, reply in pairs:
            if reply in taken or total + len(level) >= MAX_THREAD_POSTS:
                continue
            taken.add(reply)
            found[parent].append(reply)
            level.append(reply)
        total += len(level)
    return found


def _find_level(
    conn: Conn, posts: list[Address], choice: Choice, *, is_first: bool
) -> list[tuple[Address, Address]]:
    """Return posts with their replies."""
    most = choice.first if is_first else choice.deeper
    ranked = is_first and choice.most_liked
    rows = conn.execute(
        f"""
        SELECT x.a, x.k, r.actor, r.rkey
        FROM unnest(%(actors)s::int4[], %(rkeys)s::int8[]) AS x(a, k)
        CROSS JOIN LATERAL (
            SELECT n.actor, n.rkey FROM (
                SELECT actor, rkey, sort_at FROM {partition_of(REPLY_PARENT)}
                WHERE path = %(path)s AND target_rkey = x.k AND target_actor = x.a
                  AND target_collection = %(post)s
                ORDER BY sort_at {"ASC" if choice.oldest else "DESC"}, rkey DESC
                LIMIT %(read)s
            ) n {_BY_LIKES if ranked else ""} LIMIT %(most)s
        ) r
        """,
        {
            "actors": [each.actor for each in posts],
            "rkeys": [each.rkey for each in posts],
            "path": REPLY_PARENT,
            "post": POST,
            "read": MAX_RANKED_REPLIES if ranked else most,
            "most": most,
        },
    )
    return [
        (Address(actor, POST, rkey), Address(by, POST, key))
        for actor, rkey, by, key in rows
    ]
