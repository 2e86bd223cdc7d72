"""Likes from the index: all recent ones at once, then the new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from feeds.for_you.like_graph import POST, LikeGraph
from feeds.for_you.parameters import Parameters
from storage.collections import LIKE_SUBJECT
from storage.postgres.pool import Conn
from storage.records.links import partition_of

OVERLAP_S: Final = 60
"""Seconds before the last read that are read again: likes are applied late."""
MAX_NEW: Final = 500_000
"""New likes of one read; more are a reason to read all again."""
_ROWS: Final = 5_000
_LIKES: Final = partition_of(LIKE_SUBJECT)
_CONDITION: Final = (
    f"WHERE path = {LIKE_SUBJECT} AND target_collection = {POST}"
    " AND sort_at > to_timestamp(%(since)s)"
)
_OF_POSTS: Final = f"FROM {_LIKES} {_CONDITION}"
# A float: exact to the second, and a quarter of the cost of a numeric.
_SECONDS: Final = "floor(date_part('epoch', sort_at))::int8"
# PostgreSQL numbers the posts and packs the likes: a step in Python for each account
# and each post, not for each like.
_POSTS: Final = f"""
    CREATE TEMPORARY TABLE liked_post ON COMMIT DROP AS
    SELECT target_actor, target_rkey, (row_number() OVER () - 1)::int4 AS number
    FROM (SELECT DISTINCT target_actor, target_rkey {_OF_POSTS}) AS liked
"""
_NUMBERED: Final = f"""
    CREATE TEMPORARY TABLE numbered_like ON COMMIT DROP AS
    SELECT actor, number, ({_SECONDS} - %(since)s)::int4 AS at
    FROM {_LIKES} JOIN liked_post USING (target_actor, target_rkey) {_CONDITION}
"""
_BY_POST: Final = """
    SELECT p.target_actor, p.target_rkey, packed.likers FROM (
        SELECT number, string_agg(int8send(at::int8 << 32 | actor), '') AS likers
        FROM (SELECT * FROM numbered_like ORDER BY number, at, actor) AS l
        GROUP BY number
    ) AS packed JOIN liked_post p USING (number) ORDER BY number
"""
_BY_ACCOUNT: Final = """
    SELECT actor, string_agg(int4send(number), ''), string_agg(int4send(at), '')
    FROM (SELECT * FROM numbered_like ORDER BY actor, at, number) AS l GROUP BY actor
"""


class LoadStoppedError(Exception):
    """The process ends before all likes are read."""


def load_graph(
    conn: Conn,
    now: int,
    parameters: Parameters,
    is_stopped: Callable[[], bool] = lambda: False,
) -> LikeGraph:
    """Return the recent likes of the index: at most `max_likes`, the newest.

    `now` is in seconds since 1970. The connection needs a transaction of its own.
    Raises LoadStoppedError.
    """
    since = _find_start(conn, now, parameters)
    graph = LikeGraph(since)
    conn.execute("SET LOCAL work_mem = '512MB'")
    conn.execute("SET LOCAL idle_in_transaction_session_timeout = '120s'")
    for made in (_POSTS, "ANALYZE liked_post", _NUMBERED, "ANALYZE numbered_like"):
        conn.execute(made.replace("%(since)s", str(since)))
    for row in _stream(conn, "posts", _BY_POST, is_stopped):
        graph.put_post(*row)
    for row in _stream(conn, "accounts", _BY_ACCOUNT, is_stopped):
        graph.put_account(*row)
    conn.execute("DROP TABLE liked_post, numbered_like")
    return graph


def add_new_likes(conn: Conn, graph: LikeGraph, since: int) -> int:
    """Add the likes since a time in seconds since 1970; return their number."""
    rows = conn.execute(
        f"SELECT actor, target_actor, target_rkey, {_SECONDS} {_OF_POSTS}"
        " ORDER BY sort_at LIMIT %(limit)s",
        {"since": since - OVERLAP_S, "limit": MAX_NEW},
    )
    return sum(graph.add(*row) for row in rows)


def _find_start(conn: Conn, now: int, parameters: Parameters) -> int:
    """Return the time since which the index has at most `max_likes`."""
    since = now - parameters.history_s
    rows = conn.execute(
        "SELECT date_part('epoch', date_bin('1 hour', sort_at, to_timestamp(0)))::int8,"
        f" count(*) {_OF_POSTS} GROUP BY 1 ORDER BY 1 DESC",
        {"since": since},
    )
    total = 0
    for hour, count in rows:
        total += count
        if total > parameters.max_likes:
            return int(hour) + 3600
    return since


def _stream(
    conn: Conn, name: str, query: str, is_stopped: Callable[[], bool]
) -> Iterator[tuple[int, Any, Any]]:
    with conn.cursor(name) as cursor:
        cursor.execute(query, binary=True)
        while rows := cursor.fetchmany(_ROWS):
            if is_stopped():
                raise LoadStoppedError
            yield from rows
