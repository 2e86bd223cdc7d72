"""Report about one host, for its operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from protocol.events.drops import DropReason
from storage.hosts.host_rows import shown_state
from storage.hosts.host_strikes import STRIKES_NOW
from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn

MOST_COUNTED: Final = 10_000
"""Maximum repos of a host that are counted for a public report."""

_FAILURES: Final = 10


@dataclass(frozen=True, slots=True)
class Move:
    """A change of the host's state."""

    at: datetime
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class HostDrop:
    """Number of the host's messages dropped for one reason."""

    reason: str
    n: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class RepoFailure:
    """An error of desynchronized repos of the host."""

    error: str
    repos: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A host's row with its times in UTC. `strikes` are faded to now."""

    id: int
    hostname: str
    state: str
    mode: str
    source: str
    relay: bool
    now: datetime
    first_seen: datetime
    moved_at: datetime
    last_seen: datetime | None
    applied_at: datetime | None
    last_event_at: datetime | None
    last_seq: int | None
    events: int
    rate: float
    usual_rate: float
    gaps: int
    gap_at: datetime | None
    listed_at: datetime | None
    listing: bool
    poll_every: float | None
    asked_at: datetime | None
    accounts: int
    admitted_today: int
    strikes: float
    tries: int
    next_try: datetime | None
    rate_limited_until: datetime | None
    error: str | None
    error_at: datetime | None
    waiting_repos: int
    hidden_accounts: int
    max_accounts: int | None
    accounts_per_day: int | None
    requests_per_s: float | None
    events_per_s: float | None
    bytes_per_s: float | None

    @property
    def shown_state(self) -> str:
        return shown_state(self.state, self.tries)

    @property
    def lag_s(self) -> float | None:
        """Return the delay between the newest event and its application."""
        if self.applied_at is None or self.last_event_at is None:
            return None
        return (self.applied_at - self.last_event_at).total_seconds()


@dataclass(frozen=True, slots=True)
class HostReport:
    """All parts of the report, newest and largest first."""

    facts: HostFacts
    moves: Sequence[Move]
    drops: Sequence[HostDrop]
    failures: Sequence[RepoFailure]


def host_report(
    conn: Conn, hostname: str, *, most: int | None = None
) -> HostReport | None:
    """Return the report about a host; None if it is unknown.

    Counts at most `most` + 1 of its waiting and hidden repos.
    """
    bound = None if most is None else most + 1
    with conn.cursor(row_factory=class_row(HostFacts)) as cursor:
        cursor.execute(
            f"""
            SELECT id, hostname, state, mode, source, relay, now() AS now, first_seen,
                moved_at, last_seen, progress.at AS applied_at, last_event_at,
                progress.seq AS last_seq, events, rate, usual_rate, gaps, gap_at,
                listed_at, list_cursor IS NOT NULL AS listing, poll_every, asked_at,
                accounts, {STRIKES_NOW} AS strikes, tries, next_try,
                CASE WHEN admitted_on = (now() AT TIME ZONE 'UTC')::date
                    THEN admitted ELSE 0 END AS admitted_today,
                rate_limited_until, error, error_at,
                (SELECT count(*) FROM (SELECT FROM repo WHERE repo.host = host.id
                    AND repo.state <> 'synchronized' LIMIT %(most)s) looked)
                    AS waiting_repos,
                (SELECT count(*) FROM (SELECT FROM repo WHERE repo.host = host.id
                    AND repo.hidden LIMIT %(most)s) looked) AS hidden_accounts,
                max_accounts, accounts_per_day, requests_per_s, events_per_s,
                bytes_per_s
            FROM host LEFT JOIN LATERAL (
                SELECT min(seq) AS seq, max(updated_at) AS at
                FROM host_cursor WHERE host_cursor.host = host.id
            ) progress ON true
            WHERE hostname = %(hostname)s
            """,
            {"hostname": hostname, "most": bound},
        )
        facts = cursor.fetchone()
    if facts is None:
        return None
    return HostReport(
        facts,
        fetch_all(
            conn,
            Move,
            "SELECT at, before, after, why FROM host_move WHERE host = %s"
            " ORDER BY id DESC",
            (facts.id,),
        ),
        fetch_all(
            conn,
            HostDrop,
            # Uses the primary key (reason, host).
            "SELECT reason, n, last_at FROM drop_count"
            " WHERE host = %s AND reason = ANY(%s) ORDER BY n DESC, reason",
            (facts.id, [str(reason) for reason in DropReason]),
        ),
        fetch_all(
            conn,
            RepoFailure,
            f"""
            SELECT error, count(*) AS repos FROM (
                SELECT error FROM repo
                WHERE host = %s AND state <> 'synchronized' LIMIT %s
            ) looked
            WHERE error IS NOT NULL
            GROUP BY error ORDER BY repos DESC, error LIMIT {_FAILURES}
            """,
            (facts.id, bound),
        ),
    )
