"""A post, the posts above it, and the replies below it."""

from __future__ import annotations

from dataclasses import dataclass

from appview.hydration.records import POST
from appview.pipeline import Params
from appview.session import Session
from network.xrpc.server import XrpcError
from protocol.syntax import parse_at_uri
from storage.collections import REPLY_PARENT
from storage.postgres.arrays import int_columns
from storage.records.addresses import Address, find_addresses

MAX_THREAD_POSTS = 1_000
"""Posts of one answer; a larger thread shows its most recent branches first."""
MAX_REPLIES_A_POST = 200
MAX_DEPTH = 40
MAX_PARENTS = 80


def find_post(session: Session, uri: str) -> Address | None:
    """Return the address of a record by AT-URI, with a DID or a handle."""
    parsed = parse_at_uri(uri)
    actor = session.find_actor(str(parsed.authority))
    if actor is None or parsed.rkey is None:
        return None
    row = session.conn.execute(
        "SELECT did FROM actor WHERE id = %s", (actor,)
    ).fetchone()
    plain = f"at://{row[0]}/{parsed.collection}/{parsed.rkey}" if row else uri
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
    parents = _find_parents(session, post, height)
    return Thread(post, parents, _find_replies(session, post, depth, {post, *parents}))


def post_not_found(params: Params) -> XrpcError:
    """Return the error for a post that is not there or not shown."""
    return XrpcError("NotFound", f"Post not found: {params['uri']}", 400)


def _find_parents(session: Session, post: Address, height: int) -> list[Address]:
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


def _find_replies(
    session: Session, post: Address, depth: int, seen: set[Address]
) -> dict[Address, list[Address]]:
    """Return replies by parent, one query a level, without the posts in `seen`."""
    found: dict[Address, list[Address]] = {}
    level, total = [post], 1
    for _ in range(depth):
        if not level or total >= MAX_THREAD_POSTS:
            break
        session.context.check_client()
        found |= {each: [] for each in level}
        rows = session.conn.execute(
            """
            SELECT x.a, x.k, r.actor, r.rkey
            FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
            CROSS JOIN LATERAL (
                SELECT actor, rkey FROM link
                WHERE path = %s AND target_rkey = x.k AND target_actor = x.a
                  AND target_collection = %s
                ORDER BY sort_at DESC, rkey DESC LIMIT %s
            ) r
            """,
            (
                *int_columns([(a.actor, a.rkey) for a in level], 2),
                REPLY_PARENT,
                POST,
                MAX_REPLIES_A_POST,
            ),
        ).fetchall()
        level = []
        for actor, rkey, by, key in rows:
            reply = Address(by, POST, key)
            if reply in seen or total + len(level) >= MAX_THREAD_POSTS:
                continue
            seen.add(reply)
            found[Address(actor, POST, rkey)].append(reply)
            level.append(reply)
        total += len(level)
    return found
