"""Known hosts: their rows, states, and moves between states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from storage.postgres.pool import Conn

HOST_NEW: Final = "new"
HOST_STREAMING: Final = "streaming"
HOST_POLLING: Final = "polling"
HOST_RELAYED: Final = "relayed"
HOST_THROTTLED: Final = "throttled"
HOST_OFFLINE: Final = "offline"
HOST_RECHECK: Final = "needs_recheck"
HOST_BANNED: Final = "banned"
"""States of a host.

new            known by name only; contacted next
streaming      its stream is read
polling        quiet: its listing is compared now and then
relayed        a relay forwards its commits; only repos are fetched from it
throttled      misbehaved: not contacted until `next_try`
offline        did not answer: tried again at `next_try`
needs_recheck  its sequence went back: read from the tip, compared in full
banned         never contacted
"""

RECONNECTING: Final = "reconnecting"
"""Shown for a host whose stream does not open. Not a stored state: the reader keeps
trying from its cursor."""
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
    # Only the operator lifts a ban.
    HOST_BANNED: frozenset({HOST_NEW}),
}
"""State -> the states that may follow. Any other move is ignored: its caller saw an
older state."""

HOST_STATES: Final = tuple(MOVES)

MODE_STREAM: Final = "stream"
MODE_POLL: Final = "poll"
"""The way a healthy host is followed. Kept while it is throttled or offline, so that
thousands of returning hosts do not need thousands of streams."""

_KEPT_MOVES: Final = 20

SOURCE_CONFIGURED: Final = "configured"
SOURCE_REQUEST_CRAWL: Final = "request_crawl"
SOURCE_RELAY: Final = "relay"
SOURCE_DOCUMENT: Final = "did_document"
SOURCE_PLC: Final = "plc"


@dataclass(frozen=True, slots=True)
class Host:
    """A host, as the crawler needs it. Times are UTC."""

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
        """Return True if the operator configured it: no limits of untrusted hosts."""
        return self.source == SOURCE_CONFIGURED


HOST_COLUMNS: Final = ", ".join(Host.__annotations__)


def shown_state(state: str, tries: int) -> str:
    """Return the state as pages show it: `reconnecting` from the second failed try."""
    opening = state in (HOST_NEW, HOST_STREAMING, HOST_RECHECK)
    return RECONNECTING if opening and tries >= _RECONNECTING_AFTER else state


def put_host(
    conn: Conn,
    hostname: str,
    url: str,
    *,
    source: str,
    state: str = HOST_NEW,
    relay: bool = False,
    max_accounts: int | None = None,
) -> tuple[int, bool]:
    """Get or create a host; return its id, and True if it is new.

    Configuration wins: a configured host is trusted from then on, and a banned one
    stays banned. A relayed host that is configured is contacted itself.
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
        move_host(conn, row[0], HOST_NEW, "configured by the operator")
    return row[0], row[1]


def lock_hosts(conn: Conn, ids: Iterable[int]) -> None:
    """Lock host rows until the transaction ends.

    All callers lock in the order of ids, so that two of them cannot deadlock.
    """
    conn.execute(
        "SELECT FROM host WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
        (sorted(set(ids)),),
    )


def load_hosts(conn: Conn, ids: Iterable[int] | None = None) -> dict[int, Host]:
    """Return the hosts with these ids, or all."""
    wanted = None if ids is None else list(ids)
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"SELECT {HOST_COLUMNS} FROM host"
            " WHERE %(ids)s::int4[] IS NULL OR id = ANY(%(ids)s::int4[])",
            {"ids": wanted},
        )
        return {host.id: host for host in cursor}


def find_hosts(conn: Conn, hostnames: Iterable[str]) -> dict[str, Host]:
    """Return hostname -> host for the known ones."""
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"SELECT {HOST_COLUMNS} FROM host WHERE hostname = ANY(%s)",
            (list(hostnames),),
        )
        return {host.hostname: host for host in cursor}


def find_speakers(conn: Conn, ids: Sequence[int], hostname: str) -> list[int]:
    """Return those of these hosts that may send events of accounts of `hostname`: that
    host, and relays."""
    rows = conn.execute(
        "SELECT id FROM host WHERE id = ANY(%s) AND (relay OR hostname = %s)",
        (list(ids), hostname),
    )
    return [row[0] for row in rows]


def streamed_hosts(conn: Conn, *, most: int | None = None) -> list[Host]:
    """Return up to `most` hosts whose stream should be open.

    Relays and configured hosts come first, then the busiest.
    """
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


def count_new_hosts(conn: Conn, source: str) -> int:
    """Return the number of hosts of this source first seen in the last day."""
    row = conn.execute(
        "SELECT count(*) FROM host"
        " WHERE source = %s AND first_seen > now() - interval '1 day'",
        (source,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def move_host(
    conn: Conn, host: int, state: str, why: str, *, wait: float | None = None
) -> bool:
    """Move a host to `state` if MOVES allows it; return True if it moved.

    The only place where a state changes. It is tried again in `wait` seconds. A host
    that becomes polled is polled at once.
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


def note_contact(conn: Conn, host: int, state: str) -> None:
    """Note that the host answered: clear failures and move it to `state`.

    A polled host stays polled, and a throttled one throttled: its stream may just be
    closing.
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
    conn: Conn,
    host: int,
    error: str,
    *,
    wait: float,
    state: str | None = None,
    counts: bool = True,
) -> None:
    """Note a failure: try again in `wait` seconds, in `state` if one is given.

    With `counts` False it is no failed try: the host's stream may be open. A throttling
    lasts its time. The stream reader of an offline host tries several times in a row,
    which continues while no `state` is given.
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


def note_events(conn: Conn, events: Mapping[int, tuple[int, datetime | None]]) -> None:
    """Add to the counts of handled events: host -> (number, time of the last one).

    The time is the host's; an earlier one than before is accepted, since its clock was
    wrong.
    """
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


def request_listing(conn: Conn, host: int, *, gap: bool = False) -> None:
    """Request a full comparison with the host's listing.

    With `gap`, because its stream no longer reaches back to our cursor.
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


def hold_back(conn: Conn, host: int, seconds: float) -> None:
    """Note a Retry-After of the host: no failure, no strike."""
    conn.execute(
        "UPDATE host SET rate_limited_until ="
        " greatest(rate_limited_until, now() + make_interval(secs => %s))"
        " WHERE id = %s",
        (seconds, host),
    )


def remove_host(conn: Conn, host: int) -> None:
    """Delete a host, its moves and its cursors.

    Repos fetched from it keep its id, which is never reused, until their accounts move.
    """
    conn.execute("DELETE FROM host_cursor WHERE host = %s", (host,))
    conn.execute("DELETE FROM host_move WHERE host = %s", (host,))
    conn.execute("DELETE FROM host WHERE id = %s", (host,))
