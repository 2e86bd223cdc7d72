"""Decisions of operators: numbered, with who, when and why. They are never deleted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from storage.postgres.fetch import fetch_all, fetch_int
from storage.postgres.pool import Conn

MAX_REASON_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Decision:
    """An entry of the log."""

    number: int
    decided_at: datetime
    operator: str
    action: str
    subject: str
    reason: str


def log_decision(
    conn: Conn, *, operator: str, action: str, subject: str, reason: str
) -> tuple[int, datetime]:
    """Log a decision; return its number and time. Does not commit.

    Numbers are in the order of commits: a second writer waits for the first.
    """
    number = fetch_int(
        conn, "UPDATE moderation_counter SET last = last + 1 RETURNING last"
    )
    row = conn.execute(
        """
        INSERT INTO moderation_log
            (number, decided_at, operator, action, subject, reason)
        VALUES (%s, clock_timestamp(), %s, %s, %s, %s) RETURNING decided_at
        """,
        (number, operator, action, subject, reason[:MAX_REASON_CHARS]),
    ).fetchone()
    assert row is not None
    return number, row[0]


def last_decision(conn: Conn) -> int:
    """Return the number of the last decision."""
    return fetch_int(conn, "SELECT last FROM moderation_counter")


def load_decisions(conn: Conn, *, limit: int, subject: str = "") -> list[Decision]:
    """Return the newest decisions, of one subject or of all."""
    return fetch_all(
        conn,
        Decision,
        "SELECT number, decided_at, operator, action, subject, reason"
        " FROM moderation_log WHERE %(subject)s IN ('', subject)"
        " ORDER BY number DESC LIMIT %(limit)s",
        {"subject": subject, "limit": limit},
    )
