"""Posts that quote a post, newest first."""

from __future__ import annotations

from appview.hydration.records import POST
from appview.paging import Entry, Keyset, Source
from appview.pipeline import Params
from appview.session import Session
from appview.skeletons.author_feed import END
from appview.skeletons.thread import find_post
from storage.collections import QUOTE, QUOTE_PATHS
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of


def post_quotes(session: Session, params: Params) -> Source[Address]:
    """Return the quotes of a post; its author is the first subject."""
    post = find_post(session, params["uri"])
    if post is None or post.collection != POST:
        return Source(lambda after, limit: [])

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        return _fetch(session.conn, post, after, limit)

    return Source(fetch, post)


def _fetch(
    conn: Conn, post: Address, after: Keyset | None, limit: int
) -> list[Entry[Address]]:
    at, actor, rkey = after or (END, 0, 0)
    rows = conn.execute(
        f"""
        SELECT {micros_sql("sort_at")}, actor, rkey FROM {partition_of(QUOTE)}
        WHERE path = ANY(%s) AND target_rkey = %s AND target_actor = %s
          AND target_collection = %s AND (sort_at, actor, rkey) < (%s, %s, %s)
        ORDER BY sort_at DESC, actor DESC, rkey DESC LIMIT %s
        """,
        (
            [*QUOTE_PATHS],
            post.rkey,
            post.actor,
            POST,
            from_micros(at),
            actor,
            rkey,
            limit,
        ),
    )
    return [
        Entry(Address(by, POST, key), [micros, by, key]) for micros, by, key in rows
    ]
