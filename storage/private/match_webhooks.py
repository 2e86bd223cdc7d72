"""Webhooks of saved searches: addresses, positions and failures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from storage.postgres.pool import Conn

GIVE_UP: Final = timedelta(days=1)
"""Time of failures after which a webhook is stopped."""
MAX_ERROR_CHARS: Final = 200
_COLUMNS: Final = (
    "search, url, secret, position, failures, failing_since, stopped_at, error"
)


@dataclass(frozen=True, slots=True)
class MatchWebhook:
    """An address that matches of a search are sent to.

    `position` is the number of the last match that was delivered.
    """

    search: int
    url: str
    secret: bytes
    position: int
    failures: int = 0
    failing_since: datetime | None = None
    stopped_at: datetime | None = None
    error: str | None = None

    def __repr__(self) -> str:
        return f"MatchWebhook({self.search}, {self.url!r})"


def put_webhook(
    conn: Conn, search: int, url: str, secret: bytes, position: int, now: datetime
) -> bool:
    """Set the webhook of a search; return True if the secret is a new one.

    The same address keeps secret and position, and is tried again.
    """
    kept = conn.execute(
        "UPDATE match_webhook SET failures = 0, failing_since = NULL,"
        " stopped_at = NULL, error = NULL, next_at = %s"
        " WHERE search = %s AND url = %s",
        (now, search, url),
    ).rowcount
    if kept:
        return False
    delete_webhook(conn, search)
    conn.execute(
        "INSERT INTO match_webhook (search, url, secret, position, next_at)"
        " VALUES (%s, %s, %s, %s, %s)",
        (search, url, secret, position, now),
    )
    return True


def delete_webhook(conn: Conn, search: int) -> None:
    """Remove the webhook of a search, if there is one."""
    conn.execute("DELETE FROM match_webhook WHERE search = %s", (search,))


def find_webhooks(conn: Conn, searches: Collection[int]) -> dict[int, MatchWebhook]:
    """Return the webhooks of searches."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM match_webhook WHERE search = ANY(%s)",
        (sorted(searches),),
    )
    return {row[0]: MatchWebhook(*row) for row in rows}


def claim_webhooks(
    conn: Conn, now: datetime, lease: timedelta, limit: int
) -> list[MatchWebhook]:
    """Return webhooks that are due, and reserve them for the time of `lease`."""
    rows = conn.execute(
        f"""
        UPDATE match_webhook SET next_at = %s WHERE search IN (
            SELECT search FROM match_webhook
            WHERE next_at <= %s AND stopped_at IS NULL
            ORDER BY next_at LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING {_COLUMNS}
        """,
        (now + lease, now, limit),
    )
    return [MatchWebhook(*row) for row in rows]


def save_delivery(
    conn: Conn, webhook: MatchWebhook, position: int, next_at: datetime
) -> None:
    """Move a webhook behind what it has received, or found to be gone."""
    conn.execute(
        "UPDATE match_webhook SET position = greatest(position, %s), next_at = %s,"
        " failures = 0, failing_since = NULL, error = NULL"
        " WHERE search = %s AND secret = %s",
        (position, next_at, webhook.search, webhook.secret),
    )


def save_failure(
    conn: Conn, webhook: MatchWebhook, error: str, now: datetime, next_at: datetime
) -> bool:
    """Note a failed delivery; return True if the webhook is stopped by it."""
    since = webhook.failing_since or now
    stopped_at = now if now - since >= GIVE_UP else None
    conn.execute(
        "UPDATE match_webhook SET failures = failures + 1, failing_since = %s,"
        " stopped_at = %s, error = %s, next_at = %s"
        " WHERE search = %s AND secret = %s",
        (
            since,
            stopped_at,
            error.replace("\0", "")[:MAX_ERROR_CHARS],
            next_at,
            webhook.search,
            webhook.secret,
        ),
    )
    return stopped_at is not None


def put_off(conn: Conn, searches: Collection[int], next_at: datetime) -> None:
    """Let webhooks wait, without a failure."""
    if searches:
        conn.execute(
            "UPDATE match_webhook SET next_at = %s WHERE search = ANY(%s)",
            (next_at, sorted(searches)),
        )
