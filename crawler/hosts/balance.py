"""Measuring the hosts, and moving them between stream and poll by what was measured.

A move loses nothing. Onto a poll: the first one is due at once and compares revs, so
it sees whatever the stream had not brought. Onto a stream: it goes on from the saved
cursor; where there is none, or the host does not reach back to it, the stream starts
at the tip and the whole listing is compared after that.

Hosts that come back after they were away compete for the streams with the others, and
are polled where there is no place: or they would wait for one for ever.
"""

from __future__ import annotations

from typing import Final

from crawler.hosts.activity import (
    ActivityBounds,
    Candidate,
    choose_modes,
    smooth,
    usual_gap,
    usual_window,
)
from crawler.settings import CrawlSettings
from storage.hosts import host_rows
from storage.hosts.host_activity import (
    HostActivity,
    Measure,
    load_activity,
    load_gauges,
    save_gauges,
    save_measures,
)
from storage.hosts.host_status import drop_totals
from storage.postgres.pool import Conn

EVENTS: Final = "events"
DROPS: Final = "drops"
"""Names of gauges: all events, and per reason `drops/REASON`."""

_SHORTEST: Final = 5.0
# Who is away sends nothing; that says nothing of how busy it is.
_AWAY: Final = (host_rows.HOST_OFFLINE, host_rows.HOST_THROTTLED)


def measure_hosts(conn: Conn, settings: CrawlSettings) -> list[HostActivity]:
    """Bring the rates of the streamed hosts up to date; return all as they were."""
    activity = load_activity(conn)
    measures = []
    for host in activity:
        if host.mode != host_rows.MODE_STREAM or host.elapsed < _SHORTEST:
            continue
        if host.state in _AWAY:
            continue
        measures.append(_measure(host, settings))
    save_measures(conn, measures)
    return activity


def _measure(host: HostActivity, settings: CrawlSettings) -> Measure:
    usual = usual_window(
        host.age, shortest=settings.rate_window, longest=settings.usual_window
    )
    return Measure(
        host.id,
        smooth(host.rate, host.fresh, host.elapsed, settings.rate_window),
        smooth(host.usual_rate, host.fresh, host.elapsed, usual),
        host.events,
        usual_gap(host.usual_gap, host.elapsed, host.pause if host.fresh else 0.0),
        host.fresh > 0,
    )


def balance_hosts(conn: Conn, settings: CrawlSettings) -> dict[str, int]:
    """Measure, then move hosts between stream and poll; return how many went where."""
    measure_hosts(conn, settings)
    candidates = [
        Candidate(
            host.id,
            host.mode,
            host.rate,
            host.moved,
            kept=host.trusted or host.state == host_rows.HOST_RECHECK,
            relay=host.relay,
        )
        for host in load_activity(conn)
    ]
    rates = {candidate.id: candidate.rate for candidate in candidates}
    changes = choose_modes(candidates, bounds_of(settings))
    host_rows.lock_hosts(conn, changes)
    moved = {host_rows.MODE_STREAM: 0, host_rows.MODE_POLL: 0}
    for host, mode in sorted(changes.items()):
        busy = mode == host_rows.MODE_STREAM
        state = host_rows.HOST_STREAMING if busy else host_rows.HOST_POLLING
        why = f"{rates[host] * 3_600:.1f} events an hour"
        moved[mode] += host_rows.move_host(conn, host, state, why)
    return {
        "streamed": moved[host_rows.MODE_STREAM],
        "rested": moved[host_rows.MODE_POLL],
    }


def bounds_of(settings: CrawlSettings) -> ActivityBounds:
    """The bounds of `choose_modes`, from the settings."""
    return ActivityBounds(
        settings.streams_at_once,
        settings.busy_rate,
        settings.quiet_rate,
        settings.stream_dwell,
    )


def measure_totals(conn: Conn, settings: CrawlSettings) -> None:
    """Bring the rates of all events and of each reason to drop up to date."""
    row = conn.execute("SELECT coalesce(sum(events), 0)::float8 FROM host").fetchone()
    assert row is not None
    totals = {EVENTS: float(row[0])} | {
        f"{DROPS}/{reason}": float(n) for reason, n in drop_totals(conn).items()
    }
    known = load_gauges(conn)
    rows = []
    for name, total in totals.items():
        gauge = known.get(name)
        if gauge is None:
            rows.append((name, total, 0.0, 0.0))
            continue
        if gauge.elapsed < _SHORTEST:
            continue
        fresh = max(0.0, total - gauge.total)
        usual = usual_window(
            gauge.age, shortest=settings.rate_window, longest=settings.usual_window
        )
        rows.append(
            (
                name,
                total,
                smooth(gauge.rate, fresh, gauge.elapsed, settings.rate_window),
                smooth(gauge.usual, fresh, gauge.elapsed, usual),
            )
        )
    if rows:
        save_gauges(conn, rows)
