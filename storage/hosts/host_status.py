"""Status of the hosts for pages and alarms: progress, lag, failures, drops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import dict_row

from storage.hosts.host_rows import shown_state
from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One line of the status page. `lag_s` is None before the first event."""

    id: int
    hostname: str
    state: str
    mode: str
    source: str
    relay: bool
    rate: float
    last_seq: int | None
    lag_s: float | None
    events: int
    accounts: int
    strikes: float
    tries: int
    error: str | None
    last_seen: datetime | None
    listed_at: datetime | None
    waiting_repos: int
    drops: Mapping[str, int]


def host_statuses(conn: Conn, *, limit: int = 200) -> list[HostStatus]:
    """Return the status of each host, the busiest first."""
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            """
            SELECT id, hostname, state, mode, source, relay, rate,
                (SELECT min(seq) FROM host_cursor WHERE host_cursor.host = host.id)
                    AS last_seq,
                CASE WHEN last_event_at IS NOT NULL THEN
                    greatest(0, extract(epoch FROM coalesce(
                        (SELECT max(updated_at) FROM host_cursor
                         WHERE host_cursor.host = host.id), last_seen)
                        - last_event_at))::float8 END AS lag_s,
                events, accounts, strikes, tries, error, last_seen, listed_at,
                coalesce(waiting.repos, 0) AS waiting_repos
            FROM host LEFT JOIN (
                SELECT host, count(*) AS repos FROM repo
                WHERE state <> 'synchronized' GROUP BY host
            ) waiting ON waiting.host = host.id
            ORDER BY events DESC, id LIMIT %s
            """,
            (limit,),
        )
        rows = cursor.fetchall()
    drops: dict[int, dict[str, int]] = {}
    for reason, host, n in conn.execute(
        "SELECT reason, host, n FROM drop_count WHERE host = ANY(%s)",
        ([row["id"] for row in rows],),
    ):
        drops.setdefault(host, {})[reason] = n
    for row in rows:
        row["state"] = shown_state(row["state"], row["tries"])
    return [HostStatus(**row, drops=drops.get(row["id"], {})) for row in rows]


@dataclass(frozen=True, slots=True)
class WatchedHost:
    """Figures of a host for the alarms; all times in seconds.

    `usual_gap`: the longest recent pause. `silent_s`: since its stream last delivered.
    `lag_s`: delay of its newest event by its own clock, negative if its clock is ahead,
    None before the first. `away_s`: since it entered its state. `known_s`: from its
    first sight to its last delivery.
    """

    hostname: str
    state: str
    mode: str
    relay: bool
    trusted: bool
    rate: float
    usual_rate: float
    usual_gap: float
    silent_s: float | None
    lag_s: float | None
    away_s: float
    known_s: float | None
    error: str | None
    tries: int = 0

    @property
    def shown_state(self) -> str:
        return shown_state(self.state, self.tries)


def watched_hosts(conn: Conn, *, limit: int = 5_000) -> list[WatchedHost]:
    """Return the hosts that alarms check: configured ones, relays, then the busiest."""
    return fetch_all(
        conn,
        WatchedHost,
        """
        SELECT hostname, state, mode, relay, source = 'configured' AS trusted,
            rate, usual_rate, usual_gap,
            extract(epoch FROM now() - moved.at)::float8 AS silent_s,
            extract(epoch FROM moved.at - last_event_at)::float8 AS lag_s,
            extract(epoch FROM now() - moved_at)::float8 AS away_s,
            extract(epoch FROM moved.at - first_seen)::float8 AS known_s, error,
            tries
        FROM host LEFT JOIN (
            SELECT host, max(updated_at) AS at FROM host_cursor GROUP BY host
        ) moved ON moved.host = host.id
        WHERE state NOT IN ('relayed', 'banned')
        ORDER BY source = 'configured' DESC, relay DESC, usual_rate DESC, id
        LIMIT %s
        """,
        (limit,),
    )


def drop_totals(conn: Conn) -> dict[str, int]:
    """Return drop reason -> number over all hosts."""
    rows = conn.execute("SELECT reason, sum(n)::int8 FROM drop_count GROUP BY reason")
    return dict(rows.fetchall())
