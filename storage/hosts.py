"""The hosts we know: what they are, how they behave, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row

HOST_NEW: Final = "new"
HOST_STREAMING: Final = "streaming"
HOST_POLLING: Final = "polling"
HOST_RELAYED: Final = "relayed"
HOST_THROTTLED: Final = "throttled"
HOST_OFFLINE: Final = "offline"
HOST_RECHECK: Final = "needs_recheck"
HOST_BANNED: Final = "banned"
"""What the crawler does with a host.

new            known by name only; looked at next
streaming      its stream is read
polling        quiet: its listing is compared now and then
relayed        only asked for repos; a relay forwards its commits
throttled      misbehaved: left alone until `next_try`
offline        did not answer: tried again at `next_try`
needs_recheck  its numbering jumped back: read from the tip, compared in full
banned         never contacted
"""

SOURCE_CONFIGURED: Final = "configured"
SOURCE_REQUEST_CRAWL: Final = "request_crawl"
SOURCE_RELAY: Final = "relay"
SOURCE_DOCUMENT: Final = "did_document"

_COLUMNS: Final = (
    "id, hostname, url, state, source, relay, first_seen, listed_at, polled_at,"
    " max_accounts, accounts, strikes, tries, next_try, error"
)


@dataclass(frozen=True, slots=True)
class Host:
    """One host as the crawler needs it. Times are UTC."""

    id: int
    hostname: str
    url: str
    state: str
    source: str
    relay: bool
    first_seen: datetime
    listed_at: datetime | None
    polled_at: datetime | None
    max_accounts: int | None
    accounts: int
    strikes: int
    tries: int
    next_try: datetime | None
    error: str | None

    @property
    def trusted(self) -> bool:
        """Named by our own operator: exempt from the limits for strangers."""
        return self.source == SOURCE_CONFIGURED


def put_host(
    conn: psycopg.Connection[Any],
    hostname: str,
    url: str,
    *,
    source: str,
    state: str = HOST_NEW,
    relay: bool = False,
    max_accounts: int | None = None,
) -> tuple[int, bool]:
    """Get or create a host; return its id and whether it is new.

    The operator's word wins: a host that becomes configured is trusted from then
    on, and one that is banned stays banned whatever names it.
    """
    row = conn.execute(
        """
        INSERT INTO host
            (hostname, url, source, state, relay, max_accounts, listed_at)
        VALUES (%(hostname)s, %(url)s, %(source)s, %(state)s, %(relay)s, %(most)s,
            CASE WHEN %(state)s = 'relayed' THEN now() END)
        ON CONFLICT (hostname) DO UPDATE SET
            source = CASE WHEN excluded.source = 'configured'
                     THEN excluded.source ELSE host.source END,
            url = CASE WHEN excluded.source = 'configured'
                  THEN excluded.url ELSE host.url END,
            relay = CASE WHEN excluded.source = 'configured'
                    THEN excluded.relay ELSE host.relay END,
            state = CASE WHEN host.state = 'relayed' AND excluded.state = 'new'
                    THEN 'new' ELSE host.state END
        RETURNING id, xmax = 0
        """,
        {
            "hostname": hostname,
            "url": url,
            "source": source,
            "state": state,
            "relay": relay,
            "most": max_accounts,
        },
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def load_hosts(
    conn: psycopg.Connection[Any], ids: Iterable[int] | None = None
) -> dict[int, Host]:
    """Return the hosts with these ids, or all."""
    wanted = None if ids is None else list(ids)
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM host"
            " WHERE %(ids)s::int4[] IS NULL OR id = ANY(%(ids)s::int4[])",
            {"ids": wanted},
        )
        return {host.id: host for host in cursor}


def find_hosts(
    conn: psycopg.Connection[Any], hostnames: Iterable[str]
) -> dict[str, Host]:
    """Return host name -> host for the names that are known."""
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM host WHERE hostname = ANY(%s)", (list(hostnames),)
        )
        return {host.hostname: host for host in cursor}


def streamed_hosts(conn: psycopg.Connection[Any]) -> list[Host]:
    """Return the hosts whose stream should be open now."""
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"""
            SELECT {_COLUMNS} FROM host
            WHERE state IN ('new', 'streaming', 'needs_recheck')
               OR state IN ('offline', 'throttled') AND next_try <= now()
            ORDER BY relay DESC, id
            """
        )
        return cursor.fetchall()


def count_new_hosts(conn: psycopg.Connection[Any], source: str) -> int:
    """Return how many hosts of this source were first seen in the last day."""
    row = conn.execute(
        "SELECT count(*) FROM host"
        " WHERE source = %s AND first_seen > now() - interval '1 day'",
        (source,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def set_state(
    conn: psycopg.Connection[Any],
    host: int,
    state: str,
    *,
    unless: Sequence[str] = (HOST_BANNED,),
) -> None:
    """Move a host to `state`, but for the states in `unless`."""
    conn.execute(
        "UPDATE host SET state = %s, next_try = NULL"
        " WHERE id = %s AND state <> ALL(%s) AND state <> %s",
        (state, host, list(unless), state),
    )


def note_contact(conn: psycopg.Connection[Any], host: int, state: str) -> None:
    """The host answered: failures are forgotten, and it is in `state` now."""
    conn.execute(
        """
        UPDATE host SET state = %s, tries = 0, next_try = NULL, error = NULL,
            last_seen = now()
        WHERE id = %s AND state <> 'banned'
        """,
        (state, host),
    )


def note_failure(
    conn: psycopg.Connection[Any],
    host: int,
    error: str,
    *,
    wait: float,
    state: str | None = None,
) -> None:
    """The host failed us: tried again in `wait` seconds, in `state` if one is given."""
    conn.execute(
        """
        UPDATE host SET tries = tries + 1, error = %s, error_at = now(),
            next_try = now() + make_interval(secs => %s),
            state = CASE WHEN state = 'banned' THEN state ELSE coalesce(%s, state) END
        WHERE id = %s
        """,
        (error[:500].replace("\0", ""), wait, state, host),
    )


def add_strikes(
    conn: psycopg.Connection[Any], host: int, count: int, *, limit: int, wait: float
) -> int:
    """Count misbehaviour; at `limit` strikes the host is throttled for `wait` seconds.

    Strikes start anew after the throttling. Returns the strikes now held. A relay
    of our choice and configured hosts are counted, never throttled.
    """
    row = conn.execute(
        """
        UPDATE host SET strikes = strikes + %(count)s WHERE id = %(host)s
        RETURNING strikes, source = 'configured'
        """,
        {"count": count, "host": host},
    ).fetchone()
    if row is None:
        return 0
    strikes, trusted = row
    if strikes >= limit and not trusted:
        conn.execute(
            """
            UPDATE host SET state = 'throttled', strikes = 0,
                next_try = now() + make_interval(secs => %s),
                error = 'too many bad messages', error_at = now()
            WHERE id = %s AND state <> 'banned'
            """,
            (wait, host),
        )
    return int(strikes)


def note_events(
    conn: psycopg.Connection[Any],
    events: Mapping[int, tuple[int, datetime | None]],
) -> None:
    """Add to the counts of handled events: host -> (how many, newest host time)."""
    if not events:
        return
    hosts = sorted(events)
    conn.execute(
        """
        UPDATE host SET events = events + t.n, last_seen = now(),
            last_event_at = greatest(last_event_at, t.at)
        FROM unnest(%s::int4[], %s::int8[], %s::timestamptz[]) AS t (id, n, at)
        WHERE host.id = t.id
        """,
        (hosts, [events[h][0] for h in hosts], [events[h][1] for h in hosts]),
    )


def admit_accounts(
    conn: psycopg.Connection[Any],
    host: int,
    wanted: int,
    *,
    per_day: int | None,
    room: int,
) -> int:
    """Grant a host up to `wanted` new accounts; return how many.

    A trusted host is bound only by its own `max_accounts` and by `room`, the places
    left under our account cap; others also by `per_day`. Locks the host's row until
    the caller's transaction ends, so two processes cannot both grant the last place.
    """
    row = conn.execute(
        """
        SELECT source, state, max_accounts, accounts,
            CASE WHEN admitted_on = (now() AT TIME ZONE 'UTC')::date
                 THEN admitted ELSE 0 END
        FROM host WHERE id = %s FOR UPDATE
        """,
        (host,),
    ).fetchone()
    if row is None:
        return 0
    source, state, most, accounts, today = row
    if state in (HOST_BANNED, HOST_THROTTLED):
        return 0
    granted = min(wanted, room)
    if most is not None:
        granted = min(granted, most - accounts)
    elif source != SOURCE_CONFIGURED and per_day is not None:
        granted = min(granted, per_day - today)
    granted = max(granted, 0)
    if granted:
        conn.execute(
            """
            UPDATE host SET accounts = accounts + %s, admitted = %s,
                admitted_on = (now() AT TIME ZONE 'UTC')::date
            WHERE id = %s
            """,
            (granted, today + granted, host),
        )
    return granted


def count_accounts(conn: psycopg.Connection[Any]) -> int:
    """Return how many accounts were let in, over all hosts."""
    row = conn.execute("SELECT coalesce(sum(accounts), 0) FROM host").fetchone()
    assert row is not None
    return int(row[0])


def request_listing(conn: psycopg.Connection[Any], host: int) -> None:
    """Have the host's whole listing compared with ours at the next chance."""
    conn.execute(
        "UPDATE host SET listed_at = NULL, list_cursor = NULL, polled_at = NULL"
        " WHERE id = %s",
        (host,),
    )


def begin_listing(conn: psycopg.Connection[Any], host: int) -> datetime:
    """Note that a listing begins now; the time stands for it until its end."""
    row = conn.execute(
        "UPDATE host SET polled_at = clock_timestamp() WHERE id = %s"
        " RETURNING polled_at",
        (host,),
    ).fetchone()
    assert row is not None
    began: datetime = row[0]
    return began


def hosts_to_list(
    conn: psycopg.Connection[Any],
    *,
    limit: int,
    older_than: float,
    states: Sequence[str] = (HOST_NEW, HOST_STREAMING, HOST_RECHECK),
) -> list[tuple[Host, str | None]]:
    """Return hosts whose listing is due, oldest first, with the cursor to go on from.

    Due: never finished, or finished more than `older_than` seconds ago; of relayed
    hosts only those for which it was requested. Relays list other hosts' repos and
    are not asked.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"""
            SELECT {_COLUMNS}, list_cursor FROM host
            WHERE NOT relay
              AND (state = ANY(%s) AND (listed_at IS NULL
                       OR listed_at < now() - make_interval(secs => %s))
                   OR state = 'relayed' AND listed_at IS NULL)
              AND (next_try IS NULL OR next_try <= now())
              AND (rate_limited_until IS NULL OR rate_limited_until <= now())
            ORDER BY listed_at NULLS FIRST, id LIMIT %s
            """,
            (list(states), older_than, limit),
        )
        due: list[tuple[Host, str | None]] = []
        for row in cursor:
            list_cursor = row.pop("list_cursor")
            due.append((Host(**row), list_cursor))
        return due


def save_list_cursor(
    conn: psycopg.Connection[Any],
    host: int,
    began: datetime,
    list_cursor: str | None,
    *,
    done: bool,
) -> None:
    """Note how far the listing that `began` then has come, or that it is complete.

    Without effect if another was requested meanwhile: what happened in between must
    be seen by that one. A complete one also forgets half of the host's strikes.
    """
    conn.execute(
        """
        UPDATE host SET list_cursor = %s,
            listed_at = CASE WHEN %s THEN now() ELSE listed_at END,
            strikes = CASE WHEN %s THEN strikes / 2 ELSE strikes END
        WHERE id = %s AND polled_at = %s
        """,
        (None if done else list_cursor, done, done, host, began),
    )


def hold_back(conn: psycopg.Connection[Any], host: int, seconds: float) -> None:
    """The host asked us to wait (Retry-After). No failure, no strike."""
    conn.execute(
        "UPDATE host SET rate_limited_until ="
        " greatest(rate_limited_until, now() + make_interval(secs => %s))"
        " WHERE id = %s",
        (seconds, host),
    )


def relayed_hosts(conn: psycopg.Connection[Any]) -> list[int]:
    """Return the hosts with accounts of ours whose commits a relay forwards."""
    rows = conn.execute(
        "SELECT id FROM host WHERE state = 'relayed' AND accounts > 0 ORDER BY id"
    )
    return [row[0] for row in rows]


def quiet_hosts(
    conn: psycopg.Connection[Any], *, quiet_s: float, limit: int
) -> list[int]:
    """Return streamed hosts, not relays, that sent nothing for `quiet_s` seconds."""
    rows = conn.execute(
        """
        SELECT host.id FROM host LEFT JOIN host_cursor ON host_cursor.host = host.id
        WHERE state = 'streaming' AND NOT relay AND listed_at IS NOT NULL
        GROUP BY host.id
        HAVING coalesce(max(host_cursor.updated_at), host.first_seen)
               < now() - make_interval(secs => %s)
        ORDER BY host.id LIMIT %s
        """,
        (quiet_s, limit),
    )
    return [row[0] for row in rows]
