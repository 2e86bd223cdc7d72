"""Moving hosts between stream and poll by their measured rates.

A move loses nothing. A host that is polled now is polled at once, which compares all
revs. A stream continues from the saved cursor; without one it starts at the tip, and
the whole listing is compared.

Hosts that come back compete for streams with the others, and are polled meanwhile.
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
# A host that is away has no rate.
_AWAY: Final = (host_rows.HOST_OFFLINE, host_rows.HOST_THROTTLED)


def measure_hosts(conn: Conn, settings: CrawlSettings) -> list[HostActivity]:
    """Update the rates of the streamed hosts; return the hosts as they were."""
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
    """Measure hosts and move them between stream and poll; return the moves."""
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
    """Return the bounds of `choose_modes`."""
    return ActivityBounds(
        settings.streams_at_once,
        settings.busy_rate,
        settings.quiet_rate,
        settings.stream_dwell,
    )


def measure_totals(conn: Conn, settings: CrawlSettings) -> None:
    """Update the rates of all events and of each drop reason."""
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
