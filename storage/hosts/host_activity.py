"""Measured activity of hosts: counts of events, and rates made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from storage.hosts.host_rows import lock_hosts
from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class HostActivity:
    """Counts of one host. Times are in seconds.

    `elapsed`: since the last measure, or since it entered its state, if that is later.
    `moved`: since it entered its state. `age`: since it was first seen. `fresh`: events
    since the last measure. `usual_gap`: the longest recent pause. `pause`: since a
    measure found new events, or since it entered its state.
    """

    id: int
    state: str
    mode: str
    relay: bool
    trusted: bool
    rate: float
    usual_rate: float
    events: int
    fresh: int
    elapsed: float
    moved: float
    age: float
    usual_gap: float
    pause: float


@dataclass(frozen=True, slots=True)
class Measure:
    """New rates of a host, made of `events` counted so far."""

    id: int
    rate: float
    usual_rate: float
    events: int
    usual_gap: float
    fresh: bool


def load_activity(conn: Conn) -> list[HostActivity]:
    """Return followed hosts, and streamed ones that are offline or throttled and
    due."""
    return fetch_all(
        conn,
        HostActivity,
        """
        SELECT id, state, mode, relay, source = 'configured' AS trusted, rate,
            usual_rate, events, greatest(0, events - measured_events) AS fresh,
            extract(epoch FROM now()
                - greatest(coalesce(measured_at, first_seen), moved_at))::float8
                AS elapsed,
            extract(epoch FROM now() - moved_at)::float8 AS moved,
            extract(epoch FROM now() - first_seen)::float8 AS age, usual_gap,
            extract(epoch FROM now()
                - greatest(coalesce(fresh_at, first_seen), moved_at))::float8
                AS pause
        FROM host
        WHERE state IN ('new', 'streaming', 'needs_recheck', 'polling')
           OR state IN ('offline', 'throttled') AND mode = 'stream'
              AND next_try <= now()
        ORDER BY id
        """,
    )


def save_measures(conn: Conn, measures: Sequence[Measure]) -> None:
    """Write rates and the counts they were made of. Locks the rows."""
    if not measures:
        return
    lock_hosts(conn, [measure.id for measure in measures])
    conn.execute(
        """
        UPDATE host SET rate = t.rate, usual_rate = t.usual, measured_events = t.n,
            measured_at = now(), usual_gap = t.gap,
            fresh_at = CASE WHEN t.fresh THEN now() ELSE fresh_at END
        FROM unnest(%s::int4[], %s::float8[], %s::float8[], %s::int8[], %s::float8[],
            %s::bool[]) AS t (id, rate, usual, n, gap, fresh)
        WHERE host.id = t.id
        """,
        (
            [measure.id for measure in measures],
            [measure.rate for measure in measures],
            [measure.usual_rate for measure in measures],
            [measure.events for measure in measures],
            [measure.usual_gap for measure in measures],
            [measure.fresh for measure in measures],
        ),
    )


@dataclass(frozen=True, slots=True)
class Gauge:
    """A counter and its rates: its `total` when last read, `elapsed` seconds ago, and
    its `age` in seconds since it was first read."""

    name: str
    total: float
    rate: float
    usual: float
    elapsed: float
    age: float


def load_gauges(conn: Conn) -> dict[str, Gauge]:
    with conn.cursor(row_factory=class_row(Gauge)) as cursor:
        cursor.execute(
            """
            SELECT name, total, rate, usual,
                extract(epoch FROM now() - at)::float8 AS elapsed,
                extract(epoch FROM now() - since)::float8 AS age
            FROM gauge
            """
        )
        return {gauge.name: gauge for gauge in cursor}


def save_gauges(conn: Conn, gauges: Sequence[tuple[str, float, float, float]]) -> None:
    """Write (name, total, rate, usual rate)."""
    rows = sorted(gauges)
    conn.execute(
        """
        INSERT INTO gauge (name, total, rate, usual)
        SELECT * FROM unnest(%s::text[], %s::float8[], %s::float8[], %s::float8[])
        ON CONFLICT (name) DO UPDATE SET total = excluded.total,
            rate = excluded.rate, usual = excluded.usual, at = now()
        """,
        tuple([row[column] for row in rows] for column in range(4)),
    )
