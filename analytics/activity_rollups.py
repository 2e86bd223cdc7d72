"""Activity by hour and day: changes are appended by triggers and folded later.

Triggers of `post` and `link` append changes in the transaction of the records, without
a lock on a row that others change. The views of the schema `analytics` add both tables,
so the counts are exact at any time. docs/adr/0031-analytics.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from storage.collections import LIKE_SUBJECT
from storage.postgres.pool import Conn
from storage.records.links import partition_of

POSTS: Final = 0
LANGUAGE: Final = 10
ACTIVE: Final = 20
FOLDED_AT_ONCE: Final = 50_000
HOURS_KEPT: Final = timedelta(days=34)
"""Age of the activity that is known by the hour."""
_MISSING_AT_ONCE: Final = 3
_LIKES: Final = partition_of(LIKE_SUBJECT)
_ALL: Final = """
(SELECT at, kind, key, n FROM activity
 UNION ALL SELECT at, kind, key, n FROM activity_change) AS counted
"""


def fold_activity(conn: Conn) -> int:
    """Add appended changes to their sums; return their number. Does not commit."""
    row = conn.execute(
        """
        WITH taken AS (
            DELETE FROM activity_change WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM activity_change LIMIT %s FOR UPDATE SKIP LOCKED
            )) RETURNING at, kind, key, n
        ), folded AS (
            INSERT INTO activity AS a (at, kind, key, n)
            SELECT at, kind, key, sum(n) FROM taken GROUP BY at, kind, key
            ORDER BY at, kind, key
            ON CONFLICT (at, kind, key) DO UPDATE SET n = a.n + excluded.n
        )
        SELECT count(*) FROM taken
        """,
        (FOLDED_AT_ONCE,),
    ).fetchone()
    return int(row[0]) if row else 0


def count_active(conn: Conn, now: datetime) -> int:
    """Count the accounts of today, yesterday, and a few days that lack a count.

    An account is active that posted or liked. Returns the number of days. Does not
    commit.
    """
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - HOURS_KEPT
    known = {
        at
        for (at,) in conn.execute(
            "SELECT at FROM activity WHERE kind = %s AND at >= %s", (ACTIVE, first)
        )
    }
    days = [today - timedelta(days=back) for back in range(HOURS_KEPT.days)]
    missing = [day for day in days[2:] if day not in known]
    due = days[:2] + missing[:_MISSING_AT_ONCE]
    for day in due:
        conn.execute(
            f"""
            INSERT INTO activity (at, kind, key, n)
            SELECT %(day)s, %(kind)s, '', count(*) FROM (
                SELECT actor FROM post
                WHERE sort_at >= %(day)s AND sort_at < %(end)s
                UNION
                SELECT actor FROM {_LIKES} WHERE path = {LIKE_SUBJECT}
                  AND sort_at >= %(day)s AND sort_at < %(end)s
            ) AS active
            ON CONFLICT (at, kind, key) DO UPDATE SET n = excluded.n
            """,
            {"day": day, "end": day + timedelta(days=1), "kind": ACTIVE},
        )
    return len(due)


@dataclass(frozen=True, slots=True)
class Miscount:
    """A day whose count differs from its rows. `key` is a language or empty."""

    day: date
    kind: int
    key: str
    counted: int
    rows: int


def find_miscounts(conn: Conn) -> list[Miscount]:
    """Count all rows again; return the days that differ."""
    rows = conn.execute(
        f"""
        WITH stored AS (
            SELECT activity_day(at) AS day, kind, key, sum(n)::int8 AS n
            FROM {_ALL} WHERE kind <> %(active)s GROUP BY 1, 2, 3
        ), counted AS ({_RECOUNT})
        SELECT (day AT TIME ZONE 'UTC')::date, kind, key, coalesce(s.n, 0),
               coalesce(c.n, 0)
        FROM stored s FULL JOIN counted c USING (day, kind, key)
        WHERE coalesce(s.n, 0) <> coalesce(c.n, 0) ORDER BY 1, 2, 3
        """,
        {"active": ACTIVE},
    )
    return [Miscount(*row) for row in rows]


def correct(conn: Conn, miscounts: Sequence[Miscount]) -> None:
    """Append what the counts of these days lack. Does not commit."""
    columns = [
        [miscount.day.isoformat() for miscount in miscounts],
        [miscount.kind for miscount in miscounts],
        [miscount.key for miscount in miscounts],
        [miscount.rows - miscount.counted for miscount in miscounts],
    ]
    conn.execute(
        "INSERT INTO activity_change (at, kind, key, n)"
        " SELECT day::timestamp AT TIME ZONE 'UTC', kind, key, n"
        " FROM unnest(%s::text[], %s::int2[], %s::text[], %s::int8[])"
        " AS x (day, kind, key, n)",
        columns,
    )


_RECOUNT: Final = """
    SELECT activity_day(sort_at) AS day, path::int2 AS kind, '' AS key,
           count(*)::int8 AS n
    FROM link WHERE path BETWEEN 1 AND 4 GROUP BY 1, 2
    UNION ALL
    SELECT activity_day(sort_at), 0::int2, '', count(*) FROM post GROUP BY 1
    UNION ALL
    SELECT activity_day(sort_at), 10::int2, lang, count(*) FROM post, LATERAL (
        SELECT DISTINCT left(split_part(lower(l), '-', 1), 8) AS lang
        FROM unnest(langs) AS l
    ) AS declared WHERE lang <> '' GROUP BY 1, 3
"""
