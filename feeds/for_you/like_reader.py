"""Likes from the index: all recent ones at once, then the new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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
# PostgreSQL packs the likes of each post: Python reads a row for each post.
_BY_POST: Final = f"""
    SELECT target_actor, target_rkey, string_agg(int8send(at << 32 | actor), '') FROM (
        SELECT target_actor, target_rkey, actor, {_SECONDS} - %(since)s AS at
        {_OF_POSTS} ORDER BY target_rkey, target_actor, at, actor
    ) AS liked GROUP BY target_rkey, target_actor
"""
# All rows are read: reading them by the index of targets would be slower by far.
_SETTINGS: Final = """
    SET LOCAL work_mem = '512MB';
    SET LOCAL cursor_tuple_fraction = 1;
    SET LOCAL enable_indexscan = off;
    SET LOCAL idle_in_transaction_session_timeout = '120s'
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
    conn.execute(_SETTINGS)
    with conn.cursor("likes") as cursor:
        cursor.execute(_BY_POST, {"since": since}, binary=True)
        while rows := cursor.fetchmany(_ROWS):
            if is_stopped():
                raise LoadStoppedError
            for row in rows:
                graph.put_post(*row)
    graph.finish()
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
