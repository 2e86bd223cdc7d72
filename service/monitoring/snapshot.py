"""Snapshot of everything that is watched; `alarms` judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from crawler.hosts.balance import DROPS, EVENTS
from plc.operation_log import stuck_feeds
from storage.hosts.host_activity import Gauge, load_gauges
from storage.hosts.host_status import WatchedHost, watched_hosts
from storage.jobs import count_jobs
from storage.outbox import outbox_backlog
from storage.pulses import Pulse, load_pulses
from storage.repos.repo_rows import count_states
from storage.states import REPO_SYNCHRONIZED

CRAWL_PULSE = "crawl"
TASK_PULSE = "task/"
"""Names of pulses: the crawling process, and `task/NAME` of each scheduled task."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is watched, at one moment.

    hosts        those that are followed, offline or throttled
    pulses       name -> when a process or task was last at work, and its figures
    gauges       name -> rates of all events and of each reason to drop
    outbox       search documents that wait to be written
    buffered     events that wait until their repo is fetched
    repos        state -> repos
    jobs         kind -> jobs that wait
    quarantined  inputs of the last day that our own code failed on
    mirrors      directories whose mirror does not get on -> why
    """

    hosts: tuple[WatchedHost, ...] = ()
    pulses: Mapping[str, Pulse] = field(default_factory=dict)
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    outbox: int = 0
    buffered: int = 0
    repos: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)
    quarantined: int = 0
    mirrors: Mapping[str, str] = field(default_factory=dict)

    @property
    def events(self) -> Gauge | None:
        """The rate of all events together, once it was measured."""
        return self.gauges.get(EVENTS)

    @property
    def drop_rates(self) -> dict[str, float]:
        """Reason -> drops a second lately."""
        prefix = f"{DROPS}/"
        return {
            name.removeprefix(prefix): gauge.rate
            for name, gauge in self.gauges.items()
            if name.startswith(prefix)
        }

    @property
    def waiting(self) -> int:
        """Repos that are not in step with their host."""
        return sum(n for state, n in self.repos.items() if state != REPO_SYNCHRONIZED)


def take_snapshot(conn: psycopg.Connection[Any]) -> Snapshot:
    """Read everything, in a handful of queries."""
    return Snapshot(
        hosts=tuple(watched_hosts(conn)),
        pulses=load_pulses(conn),
        gauges=load_gauges(conn),
        outbox=outbox_backlog(conn),
        buffered=_count(conn, "SELECT count(*) FROM resync_buffer"),
        repos=count_states(conn),
        jobs=count_jobs(conn),
        quarantined=_count(
            conn,
            "SELECT count(*) FROM quarantined_frame"
            " WHERE at > now() - interval '1 day'",
        ),
        mirrors=stuck_feeds(conn),
    )


def _count(conn: psycopg.Connection[Any], query: str) -> int:
    row = conn.execute(query).fetchone()
    return int(row[0]) if row is not None else 0
