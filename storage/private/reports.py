"""Reports that accounts send to the operators, with limits for each account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn

MAX_PER_DAY: Final = 50
"""Reports of one account in 24 hours."""
MAX_REPORTS: Final = 200_000
"""Stored reports; the oldest give way, closed ones first."""


class TooManyReportsError(Exception):
    """The account has sent as many reports as one may in a day."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report. `cid` is empty for accounts."""

    id: int
    reporter: str
    subject: str
    cid: str
    reason_type: str
    reason: str | None
    created_at: datetime
    closed_at: datetime | None


_COLUMNS: Final = (
    "id, reporter, subject, cid, reason_type, reason, created_at, closed_at"
)


def put_report(
    conn: Conn,
    reporter: str,
    *,
    subject: str,
    cid: str,
    reason_type: str,
    reason: str | None,
) -> Report:
    """Store a report. Raises TooManyReportsError. Does not commit.

    An account that sends the same report again within a day gets the first one.
    """
    # One report of an account at a time, or two could pass the limit together.
    conn.execute(
        "SELECT pg_advisory_xact_lock(hashtext('report'), hashtext(%s))", (reporter,)
    )
    today = fetch_all(
        conn,
        Report,
        f"SELECT {_COLUMNS} FROM report"
        " WHERE reporter = %s AND created_at > now() - interval '1 day' LIMIT %s",
        (reporter, MAX_PER_DAY),
    )
    same = (subject, cid, reason_type, reason)
    for known in today:
        if (known.subject, known.cid, known.reason_type, known.reason) == same:
            return known
    if len(today) >= MAX_PER_DAY:
        raise TooManyReportsError(f"at most {MAX_PER_DAY} reports a day are accepted")
    [made] = fetch_all(
        conn,
        Report,
        "INSERT INTO report (reporter, subject, cid, reason_type, reason, created_at)"
        f" VALUES (%s, %s, %s, %s, %s, now()) RETURNING {_COLUMNS}",
        (reporter, subject, cid, reason_type, reason),
    )
    return made


def load_reports(
    conn: Conn, *, limit: int, closed: bool = False, before: int | None = None
) -> list[Report]:
    """Return the newest reports, open or closed ones, below the id `before`."""
    state = "IS NOT NULL" if closed else "IS NULL"
    return fetch_all(
        conn,
        Report,
        f"SELECT {_COLUMNS} FROM report WHERE closed_at {state}"
        " AND (%(before)s::int8 IS NULL OR id < %(before)s)"
        " ORDER BY id DESC LIMIT %(limit)s",
        {"before": before, "limit": limit},
    )


def close_report(conn: Conn, number: int) -> Report | None:
    """Mark an open report as handled; return it, None if there is none."""
    found = fetch_all(
        conn,
        Report,
        "UPDATE report SET closed_at = now() WHERE id = %s AND closed_at IS NULL"
        f" RETURNING {_COLUMNS}",
        (number,),
    )
    return found[0] if found else None


def prune_reports(conn: Conn, keep: int = MAX_REPORTS) -> int:
    """Delete the oldest reports over the limit, closed ones first."""
    return conn.execute(
        """
        DELETE FROM report WHERE id IN (
            SELECT id FROM report ORDER BY closed_at IS NOT NULL, id DESC OFFSET %s
        )
        """,
        (keep,),
    ).rowcount
