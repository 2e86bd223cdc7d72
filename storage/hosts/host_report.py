"""All that we can tell the operator of a host about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from protocol.events.drops import DropReason
from storage.hosts.host_rows import STRIKES_NOW, shown_state

MOST_COUNTED: Final = 10_000
"""So many repos of a host are counted for anybody who asks; there may be more."""

_FAILURES: Final = 10


@dataclass(frozen=True, slots=True)
class Move:
    """The host went from one state to another."""

    at: datetime
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class HostDrop:
    """What of the host was dropped for one reason."""

    reason: str
    n: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class RepoFailure:
    """Why repos of the host are not in step with it."""

    error: str
    repos: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A host's row, with its times; all UTC. `strikes` as they have faded by now."""

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
        """The state as people are told it."""
        return shown_state(self.state, self.tries)

    @property
    def lag_s(self) -> float | None:
        """How long after it happened the newest event came in."""
        if self.applied_at is None or self.last_event_at is None:
            return None
        return (self.applied_at - self.last_event_at).total_seconds()


@dataclass(frozen=True, slots=True)
class HostReport:
    """The whole of it, newest and largest first."""

    facts: HostFacts
    moves: Sequence[Move]
    drops: Sequence[HostDrop]
    failures: Sequence[RepoFailure]


def host_report(
    conn: psycopg.Connection[Any], hostname: str, *, most: int | None = None
) -> HostReport | None:
    """Read everything about one host; None if we do not know it. Of its repos that
    wait or are hidden no more than `most` + 1 are looked at."""
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
        _rows(
            conn,
            Move,
            "SELECT at, before, after, why FROM host_move WHERE host = %s"
            " ORDER BY id DESC",
            (facts.id,),
        ),
        _rows(
            conn,
            HostDrop,
            # By the key, of which the host is the second part.
            "SELECT reason, n, last_at FROM drop_count"
            " WHERE host = %s AND reason = ANY(%s) ORDER BY n DESC, reason",
            (facts.id, [str(reason) for reason in DropReason]),
        ),
        _rows(
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


def _rows(
    conn: psycopg.Connection[Any], kind: type[Any], query: str, values: tuple[Any, ...]
) -> list[Any]:
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()
