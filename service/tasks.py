"""The scheduled tasks and their intervals.

Each is a bounded batch that claims its work in Postgres, so that it may run twice or
not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from celery import Celery

from analytics.activity_rollups import FOLDED_AT_ONCE, count_active, fold_activity
from audit.auditor import audit_step
from audit.samples import Verdict
from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.spelling import refresh_words
from search.topics import count_topics
from service.crawling import WriteSide
from service.moderation import Moderation
from service.monitoring.metrics import TaskMetrics
from service.monitoring.snapshot import TASK_PULSE
from service.webhooks import prune_search_matches, send_webhooks
from storage.heartbeats import beat, first_beat, forget_heartbeats
from storage.records.popular import refresh_popular
from storage.repos.identities import evict
from storage.repos.jti import forget_expired_jtis

log = structlog.get_logger(__name__)

_DRAIN_BATCH = 2_000
_AUDIT_EVERY_S = 60.0
_PURGED_ACCOUNTS = 10
# Older lookups are never used; those of admitted accounts are kept.
_LOOKUP_AGE_S = 7 * 86_400.0
_LOOKUP_ROWS = 2_000_000
_TRIMMED_ROWS = 10_000
_MAX_FOLDS = 10

Work = Callable[[WriteSide], Any]


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """A function and its interval in seconds."""

    work: Work
    every_s: float


def _drain_search(side: WriteSide) -> int:
    """Drain what a killed crawl left in the outbox."""
    with side.pool.connection() as conn:
        return drain_outbox(conn, side.engine, TEXTS, _DRAIN_BATCH, side.log_matches)


def _learn_lexicons(side: WriteSide) -> Mapping[str, int]:
    """Find lexicons of new collections, and read their records by them."""
    return side.lexicons.run() if side.lexicons is not None else {}


def _refresh_words(side: WriteSide) -> int:
    """Refresh the words of spelling correction."""
    with side.pool.connection() as conn:
        return refresh_words(conn)


def _refresh_popular(side: WriteSide) -> int:
    """Write down the most popular accounts and feeds."""
    with side.pool.connection() as conn:
        return refresh_popular(conn, int(time.time()))


def _count_topics(side: WriteSide) -> int:
    """Compare the topics of the last hours with the week before."""
    with side.pool.connection() as conn:
        return count_topics(conn, datetime.now(UTC))


def _fold_activity(side: WriteSide) -> int:
    """Add the changes of activity to their sums, a bounded number at a time."""
    folded = 0
    for _ in range(_MAX_FOLDS):
        with side.pool.connection() as conn:
            some = fold_activity(conn)
        folded += some
        if some < FOLDED_AT_ONCE:
            break
    return folded


def _count_active(side: WriteSide) -> int:
    """Count the active accounts of the last days."""
    with side.pool.connection() as conn:
        return count_active(conn, datetime.now(UTC))


def _forget_tokens(side: WriteSide) -> int:
    """Forget used service tokens that have expired."""
    with side.pool.connection() as conn:
        return forget_expired_jtis(conn, time.time())


def _trim_identities(side: WriteSide) -> int:
    """Evict cached identities that are too old or too many, some at a time."""
    trimmed = 0
    while True:
        with side.pool.connection() as conn:
            some = evict(
                conn, older_than=_LOOKUP_AGE_S, rows=_LOOKUP_ROWS, limit=_TRIMMED_ROWS
            )
            trimmed += some
            if some < _TRIMMED_ROWS:
                return trimmed
            # The eviction reads the number of rows from the statistics.
            conn.execute("ANALYZE identity, handle_cache")


def _audit_sample(side: WriteSide) -> Mapping[Verdict, int]:
    """Audit repos drawn at random, and resync those that differ."""
    per_run = side.audit_per_hour * _AUDIT_EVERY_S / 3_600.0
    return audit_step(side.pool, side.interner, side.open_clients, per_run=per_run)


def _send_webhooks(side: WriteSide) -> int:
    """Send matches of saved searches to their webhooks."""
    return send_webhooks(side.config, side.pool, side.private)


def _apply_moderation(side: WriteSide) -> int:
    """Copy takedowns and issued labels into the index, and prune reports."""
    return Moderation(side.config, side.pool, side.private, side.interner).apply()


def _prune_matches(side: WriteSide) -> int:
    """Delete matches that are old or too many."""
    return prune_search_matches(side.pool, side.private)


def _fill_feeds(side: WriteSide) -> int:
    """Read the folder of recipes, and fill the candidates of new ones."""
    return side.recipes.run() if side.recipes is not None else 0


TASKS: Mapping[str, ScheduledTask] = {
    "discover_hosts": ScheduledTask(lambda side: side.tasks.discover_hosts(), 300.0),
    "list_repos": ScheduledTask(lambda side: side.tasks.list_repos(), 60.0),
    "balance_hosts": ScheduledTask(lambda side: side.tasks.balance_hosts(), 60.0),
    "poll_quiet_hosts": ScheduledTask(lambda side: side.tasks.poll_quiet_hosts(), 60.0),
    "sweep_statuses": ScheduledTask(lambda side: side.tasks.sweep_statuses(), 120.0),
    "hand_out_backfills": ScheduledTask(
        lambda side: side.tasks.hand_out_backfills(), 15.0
    ),
    "refresh_identities": ScheduledTask(
        lambda side: side.tasks.refresh_identities(), 60.0
    ),
    "drain_search": ScheduledTask(_drain_search, 5.0),
    "learn_lexicons": ScheduledTask(_learn_lexicons, 60.0),
    "send_webhooks": ScheduledTask(_send_webhooks, 2.0),
    "apply_moderation": ScheduledTask(_apply_moderation, 15.0),
    "fill_feeds": ScheduledTask(_fill_feeds, 2.0),
    "prune_matches": ScheduledTask(_prune_matches, 60.0),
    "refresh_words": ScheduledTask(_refresh_words, 900.0),
    "refresh_popular": ScheduledTask(_refresh_popular, 60.0),
    "count_topics": ScheduledTask(_count_topics, 60.0),
    "fold_activity": ScheduledTask(_fold_activity, 10.0),
    "count_active": ScheduledTask(_count_active, 1_800.0),
    "forget_tokens": ScheduledTask(_forget_tokens, 300.0),
    "trim_identities": ScheduledTask(_trim_identities, 300.0),
    "audit_sample": ScheduledTask(_audit_sample, _AUDIT_EVERY_S),
    "purge_deleted": ScheduledTask(
        lambda side: side.index.purge_deleted(_PURGED_ACCOUNTS), 300.0
    ),
}


def intervals() -> dict[str, float]:
    """Return the seconds between runs by task name."""
    return {name: task.every_s for name, task in TASKS.items()}


def register(app: Celery, side: WriteSide, metrics: TaskMetrics) -> None:
    """Register the tasks with the application, bound to the write side."""
    with side.pool.connection() as conn:
        forget_heartbeats(conn, TASK_PULSE, [f"{TASK_PULSE}{name}" for name in TASKS])
        # A task that never ends counts as late from now on.
        for name, task in TASKS.items():
            first_beat(conn, f"{TASK_PULSE}{name}", {"every_s": task.every_s})
    for name, task in TASKS.items():
        app.task(name=name)(_bind(name, task, side, metrics))


def _bind(
    name: str, task: ScheduledTask, side: WriteSide, metrics: TaskMetrics
) -> Callable[[], None]:
    def run() -> None:
        started = time.monotonic()
        with metrics.run(name):
            result = task.work(side)
        # Failures give no heartbeat: a task that always fails is late.
        seconds = round(time.monotonic() - started, 3)
        with side.pool.connection() as conn:
            beat(
                conn,
                f"{TASK_PULSE}{name}",
                {"every_s": task.every_s, "seconds": seconds},
            )
        log.debug("task_done", task=name, result=result)

    return run
