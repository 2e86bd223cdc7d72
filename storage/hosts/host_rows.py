"""The hosts we know: what they are, how they behave, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

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

HOST_STATES: Final = (
    HOST_NEW,
    HOST_STREAMING,
    HOST_POLLING,
    HOST_RELAYED,
    HOST_THROTTLED,
    HOST_OFFLINE,
    HOST_RECHECK,
    HOST_BANNED,
)

RECONNECTING: Final = "reconnecting"
"""What people are told of a host whose stream is to be read and does not open. Not a
state of its own: the reader goes on trying, from where it was."""
_RECONNECTING_AFTER: Final = 2

_ANSWERING: Final = frozenset({HOST_STREAMING, HOST_RECHECK})
_AT_FAULT: Final = frozenset({HOST_THROTTLED, HOST_OFFLINE, HOST_BANNED})

MOVES: Final[Mapping[str, frozenset[str]]] = {
    HOST_NEW: _ANSWERING | _AT_FAULT | {HOST_POLLING},
    HOST_STREAMING: _AT_FAULT | {HOST_POLLING, HOST_RECHECK},
    HOST_POLLING: _AT_FAULT | {HOST_STREAMING},
    HOST_RELAYED: _AT_FAULT - {HOST_OFFLINE} | {HOST_NEW},
    HOST_THROTTLED: _ANSWERING | {HOST_NEW, HOST_POLLING, HOST_OFFLINE, HOST_BANNED},
    HOST_OFFLINE: _ANSWERING | {HOST_NEW, HOST_POLLING, HOST_THROTTLED, HOST_BANNED},
    HOST_RECHECK: _AT_FAULT | {HOST_STREAMING},
    # Only our operator lifts a ban.
    HOST_BANNED: frozenset({HOST_NEW}),
}
"""State -> the states that a host can go to from there. A move that does not stand
here does not happen: whoever asks for it speaks of a moment that has passed."""

MODE_STREAM: Final = "stream"
MODE_POLL: Final = "poll"
"""How a host is followed while it is well. Kept while it is throttled or offline, so
that thousands of hosts that came back need no thousands of streams."""

_KEPT_MOVES: Final = 20

SOURCE_CONFIGURED: Final = "configured"
SOURCE_REQUEST_CRAWL: Final = "request_crawl"
SOURCE_RELAY: Final = "relay"
SOURCE_DOCUMENT: Final = "did_document"
SOURCE_PLC: Final = "plc"

HOST_COLUMNS: Final = (
    "id, hostname, url, state, mode, source, relay, first_seen, listed_at, polled_at,"
    " poll_every, rate, max_accounts, accounts_per_day, requests_per_s, events_per_s,"
    " bytes_per_s, accounts, strikes, tries, next_try, error"
)


@dataclass(frozen=True, slots=True)
class Host:
    """One host as the crawler needs it. Times are UTC."""

    id: int
    hostname: str
    url: str
    state: str
    mode: str
    source: str
    relay: bool
    first_seen: datetime
    listed_at: datetime | None
    polled_at: datetime | None
    poll_every: float | None
    rate: float
    max_accounts: int | None
    accounts_per_day: int | None
    requests_per_s: float | None
    events_per_s: float | None
    bytes_per_s: float | None
    accounts: int
    strikes: float
    tries: int
    next_try: datetime | None
    error: str | None

    @property
    def trusted(self) -> bool:
        """Named by our own operator: exempt from the limits for strangers."""
        return self.source == SOURCE_CONFIGURED


def shown_state(state: str, tries: int) -> str:
    """Return the state as people are told it: `reconnecting` from the second failed
    try on."""
    opening = state in (HOST_NEW, HOST_STREAMING, HOST_RECHECK)
    return RECONNECTING if opening and tries >= _RECONNECTING_AFTER else state


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
    on, and one that is banned stays banned whatever names it. A relayed host is looked
    at itself when the operator names it.
    """
    row = conn.execute(
        """
        INSERT INTO host
            (hostname, url, source, state, mode, relay, max_accounts, listed_at)
        VALUES (%(hostname)s, %(url)s, %(source)s, %(state)s,
            CASE WHEN %(state)s = 'polling' THEN 'poll' ELSE 'stream' END,
            %(relay)s, %(most)s, CASE WHEN %(state)s = 'relayed' THEN now() END)
        ON CONFLICT (hostname) DO UPDATE SET
            source = CASE WHEN excluded.source = 'configured'
                     THEN excluded.source ELSE host.source END,
            url = CASE WHEN excluded.source = 'configured'
                  THEN excluded.url ELSE host.url END,
            relay = CASE WHEN excluded.source = 'configured'
                    THEN excluded.relay ELSE host.relay END
        RETURNING id, xmax = 0, state
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
    if row[2] == HOST_RELAYED and state == HOST_NEW and source == SOURCE_CONFIGURED:
        move_host(conn, row[0], HOST_NEW, "named by our operator")
    return row[0], row[1]


def lock_hosts(conn: psycopg.Connection[Any], ids: Iterable[int]) -> None:
    """Lock host rows until the transaction ends, in the one order that all use: or
    two processes that touch the same two hosts could wait for each other."""
    conn.execute(
        "SELECT FROM host WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
        (sorted(set(ids)),),
    )


def load_hosts(
    conn: psycopg.Connection[Any], ids: Iterable[int] | None = None
) -> dict[int, Host]:
    """Return the hosts with these ids, or all."""
    wanted = None if ids is None else list(ids)
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"SELECT {HOST_COLUMNS} FROM host"
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
            f"SELECT {HOST_COLUMNS} FROM host WHERE hostname = ANY(%s)",
            (list(hostnames),),
        )
        return {host.hostname: host for host in cursor}


def find_speakers(
    conn: psycopg.Connection[Any], ids: Sequence[int], hostname: str
) -> list[int]:
    """Return those of these hosts that may send events of accounts of a host: that
    host, and relays."""
    rows = conn.execute(
        "SELECT id FROM host WHERE id = ANY(%s) AND (relay OR hostname = %s)",
        (list(ids), hostname),
    )
    return [row[0] for row in rows]


def streamed_hosts(
    conn: psycopg.Connection[Any], *, most: int | None = None
) -> list[Host]:
    """Return the hosts whose stream should be open now: `most` at most, relays and
    the operator's own first, then the busiest."""
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"""
            SELECT {HOST_COLUMNS} FROM host
            WHERE state IN ('new', 'streaming', 'needs_recheck')
               OR state IN ('offline', 'throttled') AND next_try <= now()
                  AND mode = 'stream'
            ORDER BY relay DESC, source = 'configured' DESC, rate DESC, id
            LIMIT %s
            """,
            (most,),
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


def move_host(
    conn: psycopg.Connection[Any],
    host: int,
    state: str,
    why: str,
    *,
    wait: float | None = None,
) -> bool:
    """Move a host to `state` if MOVES knows the way, and remember when and why.

    The one place where a state changes. `wait`: it is tried again in so many seconds.
    A host that comes to be polled is polled at once. Returns whether it was moved.
    """
    origins = [before for before, after in MOVES.items() if state in after]
    row = conn.execute(
        """
        WITH old AS (
            SELECT id, state FROM host WHERE id = %(host)s FOR NO KEY UPDATE
        )
        UPDATE host SET state = %(state)s, moved_at = now(),
            next_try = now() + make_interval(secs => %(wait)s),
            mode = CASE %(state)s WHEN 'polling' THEN 'poll'
                WHEN 'new' THEN 'stream' WHEN 'streaming' THEN 'stream'
                ELSE mode END,
            poll_every = CASE WHEN %(state)s = 'polling' THEN 0 ELSE poll_every END
        FROM old WHERE host.id = old.id AND old.state = ANY(%(origins)s)
        RETURNING old.state
        """,
        {"host": host, "state": state, "wait": wait, "origins": origins},
    ).fetchone()
    if row is None:
        return False
    conn.execute(
        "INSERT INTO host_move (host, before, after, why) VALUES (%s, %s, %s, %s)",
        (host, row[0], state, _line(why)),
    )
    conn.execute(
        """
        DELETE FROM host_move WHERE host = %(host)s AND id <= (
            SELECT id FROM host_move WHERE host = %(host)s
            ORDER BY id DESC OFFSET %(kept)s LIMIT 1)
        """,
        {"host": host, "kept": _KEPT_MOVES},
    )
    return True


def _line(text: str) -> str:
    return text[:500].replace("\0", "")


def note_contact(conn: psycopg.Connection[Any], host: int, state: str) -> None:
    """The host answered: failures are forgotten, and it is in `state` now.

    One that is polled stays so, and one whose throttling is not over: a stream may say
    this that is being closed for it.
    """
    row = conn.execute(
        """
        UPDATE host SET tries = 0, next_try = NULL, error = NULL, last_seen = now()
        WHERE id = %s AND state <> 'banned'
          AND NOT (state = 'throttled' AND coalesce(next_try > now(), false))
        RETURNING mode
        """,
        (host,),
    ).fetchone()
    if row is None or (row[0] == MODE_POLL and state in _ANSWERING):
        return
    move_host(conn, host, state, "it answers")


def note_failure(
    conn: psycopg.Connection[Any],
    host: int,
    error: str,
    *,
    wait: float,
    state: str | None = None,
    counts: bool = True,
) -> None:
    """The host failed us: tried again in `wait` seconds, in `state` if one is given.
    With `counts` False it is no failed try: the host's stream may be open.

    A throttling lasts its time. Of one that was away the reader of its stream tries
    several times in a row, and while no `state` is given that goes on.
    """
    row = conn.execute(
        """
        UPDATE host SET tries = tries + %(counts)s::int, error = %(error)s,
            error_at = now(),
            next_try = CASE
                WHEN state = 'throttled' AND (next_try > now() OR %(ends)s)
                    THEN next_try
                WHEN state IN ('throttled', 'offline') AND mode = 'stream'
                    AND NOT %(ends)s THEN next_try
                ELSE now() + make_interval(secs => %(wait)s) END
        WHERE id = %(host)s
        RETURNING state = 'throttled' AND coalesce(next_try > now(), false)
        """,
        {
            "error": _line(error),
            "ends": state is not None,
            "wait": wait,
            "host": host,
            "counts": counts,
        },
    ).fetchone()
    if state is not None and row == (False,):
        move_host(conn, host, state, error, wait=wait)


STRIKE_HALF_LIFE: Final = 86_400.0
"""Seconds after which a strike counts half."""

STRIKES_NOW: Final = (
    "strikes * 0.5 ^ (least(extract(epoch FROM now()"
    f" - coalesce(strikes_at, now())), 8640000) / {STRIKE_HALF_LIFE})"
)


def add_strikes(
    conn: psycopg.Connection[Any], host: int, count: int, *, limit: int, wait: float
) -> int:
    """Count misbehaviour; at `limit` strikes the host is throttled for `wait` seconds.

    Strikes fade by half a day after day, and start at half the limit after a
    throttling: who goes on is throttled sooner. Returns the strikes now held. A relay
    of our choice and configured hosts are counted, never throttled.
    """
    row = conn.execute(
        f"""
        UPDATE host SET strikes = {STRIKES_NOW} + %(count)s, strikes_at = now()
        WHERE id = %(host)s RETURNING strikes, source = 'configured'
        """,
        {"count": count, "host": host},
    ).fetchone()
    if row is None:
        return 0
    strikes: int = round(row[0])
    trusted = bool(row[1])
    if strikes >= limit and not trusted:
        why = f"{count} more bad messages, {strikes} by now"
        if move_host(conn, host, HOST_THROTTLED, why, wait=wait):
            conn.execute(
                "UPDATE host SET strikes = %s, error = 'too many bad messages',"
                " error_at = now() WHERE id = %s",
                (limit / 2, host),
            )
    return strikes


def forgive(conn: psycopg.Connection[Any], host: int) -> None:
    """Forget a host's strikes and failures."""
    conn.execute(
        "UPDATE host SET strikes = 0, tries = 0, error = NULL, next_try = NULL"
        " WHERE id = %s",
        (host,),
    )


def note_events(
    conn: psycopg.Connection[Any],
    events: Mapping[int, tuple[int, datetime | None]],
) -> None:
    """Add to the counts of handled events: host -> (how many, time of the last one as
    the host says). An earlier time than before is taken too: its clock was wrong."""
    if not events:
        return
    hosts = sorted(events)
    lock_hosts(conn, hosts)
    conn.execute(
        """
        UPDATE host SET events = events + t.n, last_seen = now(),
            last_event_at = coalesce(t.at, last_event_at)
        FROM unnest(%s::int4[], %s::int8[], %s::timestamptz[]) AS t (id, n, at)
        WHERE host.id = t.id
        """,
        (hosts, [events[h][0] for h in hosts], [events[h][1] for h in hosts]),
    )


def count_accounts(conn: psycopg.Connection[Any]) -> int:
    """Return how many accounts were let in, over all hosts."""
    row = conn.execute("SELECT coalesce(sum(accounts), 0) FROM host").fetchone()
    assert row is not None
    return int(row[0])


def request_listing(
    conn: psycopg.Connection[Any], host: int, *, gap: bool = False
) -> None:
    """Have the host's whole listing compared with ours at the next chance.

    `gap`: because its stream does not reach back to what we had.
    """
    conn.execute(
        """
        UPDATE host SET listed_at = NULL, list_cursor = NULL, polled_at = NULL,
            gaps = gaps + %(gap)s::int,
            gap_at = CASE WHEN %(gap)s THEN now() ELSE gap_at END
        WHERE id = %(host)s
        """,
        {"host": host, "gap": gap},
    )


def hold_back(conn: psycopg.Connection[Any], host: int, seconds: float) -> None:
    """The host asked us to wait (Retry-After). No failure, no strike."""
    conn.execute(
        "UPDATE host SET rate_limited_until ="
        " greatest(rate_limited_until, now() + make_interval(secs => %s))"
        " WHERE id = %s",
        (seconds, host),
    )


def remove_host(conn: psycopg.Connection[Any], host: int) -> None:
    """Forget a host, its moves and its cursors. The repos that were fetched from it
    keep its number, which is never given again, until their accounts move."""
    conn.execute("DELETE FROM host_cursor WHERE host = %s", (host,))
    conn.execute("DELETE FROM host_move WHERE host = %s", (host,))
    conn.execute("DELETE FROM host WHERE id = %s", (host,))


def has_relays(conn: psycopg.Connection[Any]) -> bool:
    """Return True if one of the known hosts is a relay."""
    row = conn.execute("SELECT EXISTS (SELECT FROM host WHERE relay)").fetchone()
    assert row is not None
    return bool(row[0])


def relay_is_read(conn: psycopg.Connection[Any]) -> bool:
    """Whether a relay brings the events of relayed hosts at present."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM host WHERE relay"
        " AND state IN ('streaming', 'needs_recheck'))"
    ).fetchone()
    assert row is not None
    return bool(row[0])


def relayed_hosts(conn: psycopg.Connection[Any]) -> list[int]:
    """Return the hosts with accounts of ours whose commits a relay forwards."""
    rows = conn.execute(
        "SELECT id FROM host WHERE state = 'relayed' AND accounts > 0 ORDER BY id"
    )
    return [row[0] for row in rows]
