"""Statistics of the index at one moment, for the page and the command."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from analytics.activity_rollups import ACTIVE, HOURS_KEPT, LANGUAGE
from search.topics import Trend, find_trends
from storage.postgres.pool import Conn

KINDS: Final = ("posts", "likes", "reposts", "follows", "blocks")
SHOWN_HOURS: Final = 48
SHOWN_DAYS: Final = HOURS_KEPT.days
_MOST: Final = 20
_LANGUAGE_DAYS: Final = timedelta(days=7)
_COUNTED: Final = """
    (SELECT at, kind, key, n FROM activity WHERE at >= %(since)s
     UNION ALL
     SELECT at, kind, key, n FROM activity_change WHERE at >= %(since)s) AS counted
"""


@dataclass(frozen=True, slots=True)
class Activity:
    """Records of each kind (`KINDS`) from `at` on: an hour or a day."""

    at: datetime
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Activity, languages, hosts and topics."""

    hours: list[Activity]
    days: list[Activity]
    active: list[tuple[datetime, int | None]]
    """Accounts that posted or liked by day, None before they were counted."""
    languages: list[tuple[str, int]]
    hosts: list[tuple[str, int]]
    topics: list[Trend]


def read_statistics(conn: Conn, now: datetime) -> Statistics:
    """Read all statistics; the caller ends the transaction."""
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return Statistics(
        hours=_series(conn, hour, timedelta(hours=1), SHOWN_HOURS),
        days=_series(conn, day, timedelta(days=1), SHOWN_DAYS),
        active=_active(conn, day),
        languages=_languages(conn, day - _LANGUAGE_DAYS),
        hosts=_hosts(conn),
        topics=find_trends(conn)[:_MOST],
    )


def _series(conn: Conn, last: datetime, step: timedelta, size: int) -> list[Activity]:
    """Return `size` periods up to `last`, also those without records."""
    since = last - (size - 1) * step
    unit = "day" if step.days else "hour"
    found = {
        (at, kind): int(n)
        for at, kind, n in conn.execute(
            f"SELECT date_trunc(%(unit)s, at, 'UTC'), kind, sum(n) FROM {_COUNTED}"
            " WHERE kind = ANY(%(kinds)s::int2[]) GROUP BY 1, 2",
            {"since": since, "unit": unit, "kinds": list(range(len(KINDS)))},
        )
    }
    moments = [since + place * step for place in range(size)]
    return [
        Activity(at, tuple(found.get((at, kind), 0) for kind in range(len(KINDS))))
        for at in moments
    ]


def _active(conn: Conn, today: datetime) -> list[tuple[datetime, int | None]]:
    days = [today - timedelta(days=back) for back in range(SHOWN_DAYS - 1, -1, -1)]
    found = dict(
        conn.execute(
            "SELECT at, n FROM activity WHERE kind = %s AND at >= %s", (ACTIVE, days[0])
        ).fetchall()
    )
    return [(day, found.get(day)) for day in days]


def _languages(conn: Conn, since: datetime) -> list[tuple[str, int]]:
    rows = conn.execute(
        f"SELECT key, sum(n) FROM {_COUNTED} WHERE kind = %(kind)s GROUP BY key"
        " HAVING sum(n) > 0 ORDER BY 2 DESC, 1 LIMIT %(most)s",
        {"since": since, "kind": LANGUAGE, "most": _MOST},
    )
    return [(key, int(n)) for key, n in rows]


def _hosts(conn: Conn) -> list[tuple[str, int]]:
    rows = conn.execute(
        "SELECT hostname, accounts FROM host WHERE accounts > 0"
        " ORDER BY accounts DESC, hostname LIMIT %s",
        (_MOST,),
    )
    return [(name, accounts) for name, accounts in rows]
