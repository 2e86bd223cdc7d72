"""Budgets of hosts: new accounts a day, and limits set by the operator."""

from __future__ import annotations

from typing import Final

from storage.hosts.host_rows import HOST_BANNED, HOST_THROTTLED, SOURCE_CONFIGURED
from storage.postgres.pool import Conn

_DOUBLINGS: Final = 30

LIMITS: Final = (
    "max_accounts",
    "accounts_per_day",
    "requests_per_s",
    "events_per_s",
    "bytes_per_s",
)
"""Columns of `host` that an operator may set; NULL is the general limit."""


def accounts_allowed(age_days: int, *, first_day: int, per_day: int) -> int:
    """Return the new accounts that an untrusted host may bring today.

    The first day allows `first_day`, each day twice as many, at most `per_day`.
    """
    return min(per_day, first_day << min(max(age_days, 0), _DOUBLINGS))


def admit_accounts(
    conn: Conn,
    host: int,
    wanted: int,
    *,
    per_day: int | None,
    room: int,
    first_day: int | None = None,
    returning: int = 0,
) -> int:
    """Grant a host up to `wanted` accounts; return their number.

    `returning` of them were here before: they come first and do not count as new. A
    host with its own limits is bound by those, a trusted one otherwise only by `room`
    (places left under our account cap), others also by `accounts_allowed`.

    Locks the host's row until the transaction ends, so that two processes cannot both
    grant the last place.
    """
    row = conn.execute(
        """
        SELECT source, state, max_accounts, accounts_per_day, accounts,
            CASE WHEN admitted_on = (now() AT TIME ZONE 'UTC')::date
                 THEN admitted ELSE 0 END,
            floor(extract(epoch FROM now() - first_seen) / 86400)::int4
        FROM host WHERE id = %s FOR UPDATE
        """,
        (host,),
    ).fetchone()
    if row is None:
        return 0
    source, state, most, own, accounts, today, age = row
    if state in (HOST_BANNED, HOST_THROTTLED):
        return 0
    granted = min(wanted, room)
    if most is not None:
        granted = min(granted, most - accounts)
    granted = max(granted, 0)
    back = min(granted, returning)
    new = granted - back
    if own is not None:
        new = min(new, own - today)
    elif most is None and source != SOURCE_CONFIGURED and per_day is not None:
        allowed = per_day
        if first_day is not None:
            allowed = accounts_allowed(age, first_day=first_day, per_day=per_day)
        new = min(new, allowed - today)
    new = max(new, 0)
    granted = back + new
    if granted:
        conn.execute(
            """
            UPDATE host SET accounts = accounts + %s, admitted = %s,
                admitted_on = (now() AT TIME ZONE 'UTC')::date
            WHERE id = %s
            """,
            (granted, today + new, host),
        )
    return granted


def return_accounts(conn: Conn, host: int, unused: int) -> None:
    """Take back granted accounts that were not added, in the same transaction."""
    if unused:
        conn.execute(
            "UPDATE host SET accounts = greatest(0, accounts - %(n)s),"
            " admitted = greatest(0, admitted - %(n)s) WHERE id = %(host)s",
            {"n": unused, "host": host},
        )


def set_limit(conn: Conn, host: int, name: str, value: float | None) -> None:
    """Set one of LIMITS for a host; None restores the general limit."""
    if name not in LIMITS:
        raise ValueError(f"unknown limit {name!r}; one of {', '.join(LIMITS)}")
    conn.execute(f"UPDATE host SET {name} = %s WHERE id = %s", (value, host))


def own_rates(conn: Conn) -> list[tuple[str, float]]:
    """Return (URL, requests a second) of hosts with a limit of their own."""
    rows = conn.execute(
        "SELECT url, requests_per_s FROM host WHERE requests_per_s IS NOT NULL"
    )
    return rows.fetchall()


def count_accounts(conn: Conn) -> int:
    """Return the number of admitted accounts over all hosts."""
    row = conn.execute("SELECT coalesce(sum(accounts), 0) FROM host").fetchone()
    assert row is not None
    return int(row[0])
