"""Data of the status page: counts, queues, hosts, drops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from audit.samples import Completeness, completeness
from crawler.scope.report import as_fields, describe
from labels.label_rows import stream_states
from protocol.events.drops import DropReason
from service.monitoring.alarm_rules import find_alarms
from service.monitoring.alarms import Alarm
from service.monitoring.snapshot import take_snapshot
from storage.hosts.host_status import HostStatus, drop_totals, host_statuses
from storage.outbox import outbox_backlog
from storage.postgres.pool import Conn
from storage.repos.repo_rows import count_states
from storage.repos.scope_progress import load_progress
from storage.repos.scope_rows import load_scope

BENIGN = frozenset(
    {DropReason.STALE_REV, DropReason.DESYNCHRONIZED, DropReason.OUT_OF_SCOPE}
)
"""Drops without loss: duplicates, out of scope, or the repo is fetched whole."""
COUNTS = ("accounts", "records", "links", "events", "waiting", "refused", "outbox")
"""The counters at the head of the page."""
_EXACT_BELOW = 200_000
"""Estimated size above which the planner's estimate replaces an exact count."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the index at one moment."""

    accounts: int
    records: int
    links: int
    events: int
    repo_states: dict[str, int]
    outbox: int
    drops: dict[str, int]
    hosts: list[HostStatus]
    alarms: list[Alarm]
    completeness: Completeness
    labelers: list[dict[str, Any]]
    scope: dict[str, Any]
    scope_lines: list[str]

    @property
    def waiting(self) -> int:
        """Return the number of desynchronized repos."""
        return sum(n for s, n in self.repo_states.items() if s != "synchronized")

    @property
    def refused(self) -> int:
        """Return the number of frames and operations dropped with a loss."""
        return sum(n for reason, n in self.drops.items() if reason not in BENIGN)

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON."""
        hosts = [
            {**asdict(h), "drops": dict(h.drops), "last_seen": _text(h.last_seen)}
            | {"listed_at": _text(h.listed_at)}
            for h in self.hosts
        ]
        return {name: getattr(self, name) for name in COUNTS} | {
            "repo_states": self.repo_states,
            "drops": self.drops,
            "completeness": asdict(self.completeness),
            "scope": self.scope,
            "hosts": hosts,
            "labelers": [
                state | {name: _text(state[name]) for name in ("newest_cts", "seen_at")}
                for state in self.labelers
            ],
            "alarms": [
                {"kind": a.kind, "subject": a.subject, "detail": a.detail}
                for a in self.alarms
            ],
        }


def _text(moment: Any) -> str | None:
    return moment.isoformat() if moment else None


def read_status(conn: Conn, labelers: Sequence[str] = ()) -> Status:
    """Read the state of the index, and of the streams of labelers."""
    hosts = host_statuses(conn)
    scope, progress = load_scope(conn), load_progress(conn)
    return Status(
        accounts=_count(conn, "repo"),
        records=_count(conn, "record"),
        links=_count(conn, "link"),
        events=sum(host.events for host in hosts),
        repo_states=count_states(conn),
        outbox=outbox_backlog(conn),
        drops=drop_totals(conn),
        hosts=hosts,
        alarms=find_alarms(take_snapshot(conn)),
        completeness=completeness(conn),
        labelers=stream_states(conn, labelers),
        scope=as_fields(scope, progress),
        scope_lines=describe(scope, progress),
    )


def _count(conn: Conn, table: str) -> int:
    # Before it is analyzed, a partitioned table has no estimate of its own.
    row = conn.execute(
        """
        SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::int8,
               coalesce(sum(pg_relation_size(c.oid)), 0)::int8
        FROM pg_partition_tree(%s::regclass) t JOIN pg_class c ON c.oid = t.relid
        WHERE t.isleaf
        """,
        (table,),
    ).fetchone()
    assert row is not None
    estimate, size = row
    # Every table here has more than fifty bytes a row.
    if size // 50 > _EXACT_BELOW * 4:
        return int(estimate)
    exact = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert exact is not None
    return int(exact[0])
