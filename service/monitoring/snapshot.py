"""Snapshot of the state that the alarm rules read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crawler.hosts.balance import DROPS, EVENTS
from labels.label_rows import StreamHealth, unhealthy_streams
from plc.operation_log import stuck_feeds
from search.engines.external_state import load_failures
from storage.heartbeats import Heartbeat, load_heartbeats
from storage.hosts.host_activity import Gauge, load_gauges
from storage.hosts.host_status import WatchedHost, watched_hosts
from storage.jobs import count_jobs
from storage.outbox import outbox_backlog
from storage.postgres.pool import Conn
from storage.repos.repo_rows import count_states
from storage.states import REPO_SYNCHRONIZED

CRAWL_PULSE = "crawl"
LABELER_FAILING_S = 1_800.0
LABELER_SILENT_S = 3 * 86_400.0
"""A labeler may have nothing to label for a day."""
TASK_PULSE = "task/"
"""Names of heartbeats: the crawling process, and `task/NAME` of each task."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The watched state at one moment."""

    hosts: tuple[WatchedHost, ...] = ()  # followed, offline or throttled
    pulses: Mapping[str, Heartbeat] = field(
        default_factory=dict
    )  # of processes and tasks
    gauges: Mapping[str, Gauge] = field(default_factory=dict)  # of events and drops
    outbox: int = 0  # queued search documents
    search_failures: Mapping[str, str] = field(default_factory=dict)  # engine -> reason
    buffered: int = 0  # events that wait until their repo is fetched
    repos: Mapping[str, int] = field(default_factory=dict)  # by state
    jobs: Mapping[str, int] = field(default_factory=dict)  # by kind
    quarantined: int = 0  # inputs of the last day
    mirrors: Mapping[str, str] = field(default_factory=dict)  # stuck ones -> reason
    labelers: tuple[StreamHealth, ...] = ()  # that fail or are silent for long

    @property
    def events(self) -> Gauge | None:
        """Return the rate of all events together, once measured."""
        return self.gauges.get(EVENTS)

    @property
    def drop_rates(self) -> dict[str, float]:
        """Return the recent drops per second by reason."""
        prefix = f"{DROPS}/"
        return {
            name.removeprefix(prefix): gauge.rate
            for name, gauge in self.gauges.items()
            if name.startswith(prefix)
        }

    @property
    def waiting(self) -> int:
        """Return the number of desynchronized repos."""
        return sum(n for state, n in self.repos.items() if state != REPO_SYNCHRONIZED)


def take_snapshot(conn: Conn) -> Snapshot:
    """Read the snapshot."""
    return Snapshot(
        hosts=tuple(watched_hosts(conn)),
        pulses=load_heartbeats(conn),
        gauges=load_gauges(conn),
        outbox=outbox_backlog(conn),
        search_failures=load_failures(conn),
        buffered=_count(conn, "SELECT count(*) FROM resync_buffer"),
        repos=count_states(conn),
        jobs=count_jobs(conn),
        quarantined=_count(
            conn,
            "SELECT count(*) FROM quarantined_frame"
            " WHERE at > now() - interval '1 day'",
        ),
        mirrors=stuck_feeds(conn),
        labelers=tuple(unhealthy_streams(conn, LABELER_FAILING_S, LABELER_SILENT_S)),
    )


def _count(conn: Conn, query: str) -> int:
    row = conn.execute(query).fetchone()
    return int(row[0]) if row is not None else 0
