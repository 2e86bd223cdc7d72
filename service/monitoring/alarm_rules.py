"""Rules that find alarms: each is a pure function over a snapshot.

An alarm ends when its rule no longer yields it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from typing import Final

from protocol.events.drops import DropReason
from service.monitoring.alarms import Alarm, AlarmKind
from service.monitoring.snapshot import (
    CRAWL_PULSE,
    LABELER_FAILING_S,
    LABELER_SILENT_S,
    TASK_PULSE,
    Snapshot,
)
from storage.hosts.host_rows import (
    HOST_OFFLINE,
    HOST_STREAMING,
    HOST_THROTTLED,
    RECONNECTING,
)
from storage.hosts.host_status import WatchedHost

_SILENT_S: Final = 60.0
_LATE_RUNS: Final = 3
_LATE_GRACE_S: Final = 120.0
_NO_WORKER_S: Final = 600.0
# Usual pauses between two events after which a host counts as stalled.
_PAUSES: Final = 50.0
# A pause is unusual if it is twice as long as the longest recent one.
_LONGER: Final = 2.0
_STALL_S: Final = 300.0
_KNOWN_S: Final = 86_400.0
_BUSY_RATE: Final = 1 / 60
_SLOW_SHARE: Final = 0.1
_SLOW_RATE: Final = 0.5
_LAG_S: Final = 120.0
_CLOCK_S: Final = 60.0
_CLOCK_HOSTS: Final = 3
# Older events say nothing about a host's clock now.
_CLOCK_FRESH_S: Final = 3_600.0
_FULL_SHARE: Final = 0.9
_SEARCH_BACKLOG: Final = 20_000
_WAITING_REPOS: Final = 500
_WAITING_SHARE: Final = 0.1
_BUFFERED: Final = 100_000
_IDENTITIES: Final = 20_000
_DROP_SHARE: Final = 0.05
_DROP_RATE: Final = 0.1
_IDENTITY_JOB: Final = "identity"

_HARMLESS: Final = frozenset(
    {
        DropReason.STALE_REV,
        DropReason.DESYNCHRONIZED,
        DropReason.UNKNOWN_ACCOUNT,
        DropReason.OUT_OF_SCOPE,
    }
)

Rule = Callable[[Snapshot], Iterator[Alarm]]


def crawl_silent(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if the heartbeat of the crawl stopped."""
    pulse = snapshot.pulses.get(CRAWL_PULSE)
    if pulse is not None and pulse.age_s > _SILENT_S:
        yield Alarm(AlarmKind.CRAWL_SILENT, "crawl", f"silent for {_span(pulse.age_s)}")


def task_late(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield tasks overdue by three intervals, or an alarm if no worker ever ran."""
    tasks = {n: p for n, p in snapshot.pulses.items() if n.startswith(TASK_PULSE)}
    crawl = snapshot.pulses.get(CRAWL_PULSE)
    if not tasks and crawl is not None and crawl.age_s <= _SILENT_S:
        up_s = float(crawl.figures.get("up_s", 0))
        if up_s > _NO_WORKER_S:
            detail = f"no worker ran in the {_span(up_s)} since the crawl started"
            yield Alarm(AlarmKind.TASK_LATE, "worker", detail)
    for name, pulse in sorted(tasks.items()):
        every = float(pulse.figures.get("every_s", 0))
        if pulse.age_s > _LATE_RUNS * every + _LATE_GRACE_S:
            detail = f"last done {_span(pulse.age_s)} ago, due every {_span(every)}"
            yield Alarm(AlarmKind.TASK_LATE, name.removeprefix(TASK_PULSE), detail)


def host_stalled(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield busy streamed hosts that send nothing."""
    for host in _streamed(snapshot):
        if host.usual_rate < _BUSY_RATE or host.silent_s is None:
            continue
        # The migration of its first accounts is not the usual rate of a new host.
        if not host.relay and (host.known_s or 0.0) < _KNOWN_S:
            continue
        longest = max(_STALL_S, _PAUSES / host.usual_rate)
        if not host.relay:
            # A nightly batch leaves a day without events; relays never pause so long.
            longest = max(longest, _LONGER * host.usual_gap)
        if host.silent_s > longest:
            detail = (
                f"nothing for {_span(host.silent_s)}, usually {_rate(host.usual_rate)}"
            )
            yield Alarm(AlarmKind.HOST_STALLED, host.hostname, detail)


def host_slow(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield streamed hosts that send less than a tenth of their usual rate."""
    for host in _streamed(snapshot):
        if (
            host.usual_rate >= _SLOW_RATE
            and 0.0 < host.rate < host.usual_rate * _SLOW_SHARE
        ):
            detail = f"{_rate(host.rate)}, usually {_rate(host.usual_rate)}"
            yield Alarm(AlarmKind.HOST_SLOW, host.hostname, detail)


def all_slow(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if all hosts together send less than a tenth of the usual."""
    events = snapshot.events
    if events is None or events.usual < _SLOW_RATE:
        return
    if events.rate < events.usual * _SLOW_SHARE:
        detail = f"{_rate(events.rate)}, usually {_rate(events.usual)}"
        yield Alarm(AlarmKind.ALL_SLOW, "all hosts", detail)


def host_away(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield relays and configured hosts that are unreachable or throttled."""
    for host in snapshot.hosts:
        if not (host.trusted or host.relay):
            continue
        state, error = host.shown_state, host.error or "?"
        if state == RECONNECTING:
            detail = f"reconnecting, {host.tries} tries failed: {error}"
            yield Alarm(AlarmKind.HOST_AWAY, host.hostname, detail)
        elif state in (HOST_OFFLINE, HOST_THROTTLED):
            detail = f"{state} for {_span(host.away_s)}: {error}"
            yield Alarm(AlarmKind.HOST_AWAY, host.hostname, detail)


def lag(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield streamed hosts whose recent events are old."""
    for host in _streamed(snapshot):
        if (
            host.lag_s is not None
            and host.lag_s > _LAG_S
            and host.silent_s is not None
            and host.silent_s < _STALL_S
        ):
            yield Alarm(AlarmKind.LAG, host.hostname, f"{_span(host.lag_s)} behind")


def host_clock(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield hosts that date events into the future."""
    ahead = [h for h in _heard(snapshot) if h.lag_s is not None and h.lag_s < -_CLOCK_S]
    if len(ahead) >= _CLOCK_HOSTS and any(our_clock(snapshot)):
        return
    for host in ahead:
        assert host.lag_s is not None
        yield Alarm(
            AlarmKind.HOST_CLOCK, host.hostname, f"{_span(-host.lag_s)} ahead of us"
        )


def our_clock(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if most of three or more hosts date events into the future."""
    lags = [host.lag_s for host in _heard(snapshot) if host.lag_s is not None]
    if len(lags) >= _CLOCK_HOSTS and median(lags) < -_CLOCK_S:
        detail = f"{_span(-median(lags))} behind what {len(lags)} hosts say"
        yield Alarm(AlarmKind.OUR_CLOCK, "clock", detail)


def queue_full(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if the queue of frames is full."""
    pulse = snapshot.pulses.get(CRAWL_PULSE)
    if pulse is None or pulse.age_s > _SILENT_S:
        return
    size = float(pulse.figures.get("queued_bytes", 0))
    limit = float(pulse.figures.get("queue_bytes", 0))
    if limit > 0 and size >= limit * _FULL_SHARE:
        detail = f"{size / 2**20:.0f} of {limit / 2**20:.0f} MiB"
        yield Alarm(AlarmKind.QUEUE_FULL, "crawl", detail)


def search_behind(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if the search outbox is long."""
    if snapshot.outbox > _SEARCH_BACKLOG:
        detail = f"{snapshot.outbox:,} documents wait"
        yield Alarm(AlarmKind.SEARCH_BEHIND, "search", detail)


def search_failing(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield search engines outside Postgres whose last write failed."""
    for engine, failure in sorted(snapshot.search_failures.items()):
        yield Alarm(AlarmKind.SEARCH_FAILING, engine, failure)


def repos_waiting(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if many repos, and over a tenth, are desynchronized."""
    total, waiting = sum(snapshot.repos.values()), snapshot.waiting
    if waiting > _WAITING_REPOS and waiting > total * _WAITING_SHARE:
        yield Alarm(AlarmKind.REPOS_WAITING, "repos", f"{waiting:,} of {total:,} wait")


def buffer_full(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if many events wait for their repos."""
    if snapshot.buffered > _BUFFERED:
        detail = f"{snapshot.buffered:,} events wait"
        yield Alarm(AlarmKind.BUFFER_FULL, "resync buffer", detail)


def identities_waiting(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if many DID documents wait to be fetched."""
    waiting = snapshot.jobs.get(_IDENTITY_JOB, 0)
    if waiting > _IDENTITIES:
        yield Alarm(AlarmKind.IDENTITIES_WAITING, "identities", f"{waiting:,} wait")


def mirror_stuck(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield directories whose mirror makes no progress."""
    for directory, error in sorted(snapshot.mirrors.items()):
        yield Alarm(AlarmKind.MIRROR_STUCK, directory, error)


def labeler_away(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield labelers whose streams fail, or send nothing, for long."""
    for stream in snapshot.labelers:
        if stream.failing_s is not None and stream.failing_s > LABELER_FAILING_S:
            detail = f"failing for {_span(stream.failing_s)}: {stream.error or '?'}"
        elif stream.silent_s is not None and stream.silent_s > LABELER_SILENT_S:
            detail = f"silent for {_span(stream.silent_s)}"
        else:
            continue
        yield Alarm(AlarmKind.LABELER_AWAY, stream.labeler, detail)


def many_drops(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield the drop reasons of a large share of the events."""
    events = snapshot.events
    if events is None:
        return
    for reason, rate in sorted(snapshot.drop_rates.items()):
        if reason in _HARMLESS or rate < _DROP_RATE:
            continue
        if rate > events.rate * _DROP_SHARE:
            detail = f"{_rate(rate)} of {_rate(events.rate)} in total"
            yield Alarm(AlarmKind.MANY_DROPS, reason, detail)


def quarantine(snapshot: Snapshot) -> Iterator[Alarm]:
    """Yield an alarm if inputs were quarantined in the last day."""
    if snapshot.quarantined:
        detail = f"{snapshot.quarantined:,} in the last day"
        yield Alarm(AlarmKind.QUARANTINE, "quarantined inputs", detail)


RULES: Final[tuple[Rule, ...]] = (
    crawl_silent,
    task_late,
    all_slow,
    our_clock,
    queue_full,
    host_away,
    host_stalled,
    host_slow,
    lag,
    host_clock,
    search_behind,
    search_failing,
    repos_waiting,
    buffer_full,
    identities_waiting,
    mirror_stuck,
    labeler_away,
    many_drops,
    quarantine,
)

_MOST_OF_A_KIND: Final = 20


def find_alarms(snapshot: Snapshot) -> list[Alarm]:
    """Return all current alarms, at most twenty of a kind."""
    return [
        alarm for rule in RULES for alarm in islice(rule(snapshot), _MOST_OF_A_KIND)
    ]


def _streamed(snapshot: Snapshot) -> Iterator[WatchedHost]:
    return (host for host in snapshot.hosts if host.state == HOST_STREAMING)


def _heard(snapshot: Snapshot) -> Iterator[WatchedHost]:
    return (
        host
        for host in snapshot.hosts
        if host.silent_s is not None and host.silent_s < _CLOCK_FRESH_S
    )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"


def _rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:,.1f} a second"
    if per_second * 60 >= 1:
        return f"{per_second * 60:.1f} a minute"
    return f"{per_second * 3_600:.1f} an hour"
