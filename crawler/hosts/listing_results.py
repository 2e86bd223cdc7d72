"""Results of a round of listings, for the host table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from crawler.backoff import full_jitter
from crawler.hosts.activity import next_poll, smooth
from crawler.hosts.listing import ListedHost
from crawler.hosts.listing_spider import ListingFailure
from crawler.settings import CrawlSettings
from storage.hosts import host_rows
from storage.hosts.host_listing import forget_list_cursor, note_poll
from storage.postgres.pool import Conn

_RETRY: Final = 300.0
_POLLED: Final = (
    host_rows.HOST_POLLING,
    host_rows.HOST_OFFLINE,
    host_rows.HOST_THROTTLED,
)


def note_results(
    conn: Conn,
    targets: Sequence[ListedHost],
    failures: Sequence[ListingFailure],
    settings: CrawlSettings,
) -> None:
    """Store how each host answered, and the time of its next listing."""
    host_rows.lock_hosts(conn, [target.host.id for target in targets])
    for failure in failures:
        if failure.retry_after is not None:
            host_rows.hold_back(conn, failure.host.id, failure.retry_after)
        else:
            _note_failure(conn, failure, settings)
    for target in targets:
        if not target.done:
            continue
        host = target.host
        if host.state == host_rows.HOST_RECHECK:
            host_rows.move_host(
                conn, host.id, host_rows.HOST_STREAMING, "compared in full"
            )
        elif host.mode == host_rows.MODE_POLL and host.state in _POLLED:
            _note_poll(conn, target, settings)


def _note_failure(conn: Conn, failure: ListingFailure, settings: CrawlSettings) -> None:
    host = failure.host
    if failure.refused:
        forget_list_cursor(conn, host.id)
    if host.mode != host_rows.MODE_POLL or host.state not in _POLLED:
        # Its stream tells if it is there.
        host_rows.note_failure(conn, host.id, failure.error, wait=_RETRY, counts=False)
        return
    tries = host.tries + 1
    if tries >= settings.offline_after:
        host_rows.note_failure(
            conn,
            host.id,
            failure.error,
            wait=settings.offline_recheck,
            state=host_rows.HOST_OFFLINE,
        )
        return
    longest = settings.offline_recheck / settings.offline_after
    wait = max(_RETRY, full_jitter(tries, base=_RETRY, cap=longest))
    host_rows.note_failure(conn, host.id, failure.error, wait=wait)


def _note_poll(conn: Conn, target: ListedHost, settings: CrawlSettings) -> None:
    host = target.host
    changed = len(target.behind) + target.admitted
    rate = host.rate
    if host.polled_at is not None:
        # Revs tell that a repo changed, not how often: a lower bound of its rate.
        elapsed = (datetime.now(UTC) - host.polled_at).total_seconds()
        rate = smooth(rate, len(target.behind), elapsed, settings.rate_window)
    every = next_poll(
        host.poll_every,
        changed > 0,
        first=settings.poll_interval,
        most=settings.poll_longest,
    )
    note_poll(conn, host.id, rate=rate, poll_every=every)
    if host.state != host_rows.HOST_POLLING:
        host_rows.move_host(conn, host.id, host_rows.HOST_POLLING, "it answers")
