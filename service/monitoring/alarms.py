"""When something is wrong: rules, each a pure function over a snapshot.

A rule yields an alarm for each thing it finds wrong, and none when all is well again:
nothing has to be taken back. What each kind means, and what to do, stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from statistics import median
from typing import Final

from protocol.events.drops import DropReason
from service.monitoring.snapshot import CRAWL_PULSE, TASK_PULSE, Snapshot
from storage.hosts.host_rows import (
    HOST_OFFLINE,
    HOST_STREAMING,
    HOST_THROTTLED,
    RECONNECTING,
)
from storage.hosts.host_status import WatchedHost


class AlarmKind(StrEnum):
    """What can be wrong. Closed: each is a label of a metric."""

    CRAWL_SILENT = "crawl_silent"
    TASK_LATE = "task_late"
    HOST_STALLED = "host_stalled"
    HOST_SLOW = "host_slow"
    ALL_SLOW = "all_slow"
    HOST_AWAY = "host_away"
    LAG = "lag"
    HOST_CLOCK = "host_clock"
    OUR_CLOCK = "our_clock"
    QUEUE_FULL = "queue_full"
    SEARCH_BEHIND = "search_behind"
    REPOS_WAITING = "repos_waiting"
    BUFFER_FULL = "buffer_full"
    IDENTITIES_WAITING = "identities_waiting"
    MIRROR_STUCK = "mirror_stuck"
    MANY_DROPS = "many_drops"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong now. `subject`: a host, a task or a part of ours."""

    kind: AlarmKind
    subject: str
    detail: str

    @property
    def explanation(self) -> Explanation:
        return EXPLANATIONS[self.kind]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an alarm means, and what to do next, in words."""

    means: str
    advice: str


EXPLANATIONS: Final[Mapping[AlarmKind, Explanation]] = {
    AlarmKind.CRAWL_SILENT: Explanation(
        "The live ingest did not say a word for a minute: it ended or hangs.",
        "See the end of logs/crawl.log; `bigworld up` starts it again by itself, "
        "`bigworld crawl` runs it alone. Nothing is lost: cursors wait with the data.",
    ),
    AlarmKind.TASK_LATE: Explanation(
        "A scheduled task did not end when it should have: the worker or the schedule "
        "does not run, the broker is away, or the task fails each time.",
        "See logs/worker.log for its name; run `bigworld worker --beat`.",
    ),
    AlarmKind.HOST_STALLED: Explanation(
        "A host that sends all the time sends nothing, though its stream is open, for "
        "longer than it ever paused lately. Said of relays at once, of other hosts "
        "when they were known for a day: what a new host begins with is not its usual.",
        "Ask its operator, or press “Crawl again” on its page. If all hosts stall at "
        "once, it is our network or our database.",
    ),
    AlarmKind.HOST_SLOW: Explanation(
        "A host sends less than a tenth of what it usually does.",
        "Compare with other hosts on the status page: one alone is its own trouble.",
    ),
    AlarmKind.ALL_SLOW: Explanation(
        "All hosts together bring less than a tenth of the usual: more than one host "
        "is concerned, so it is most likely us.",
        "Look at the lag: a large one means that the ingest is slow (database, disk, "
        "processor), a small one that the network is quiet or unreachable.",
    ),
    AlarmKind.HOST_AWAY: Explanation(
        "A host that you configured, or a relay, is offline, throttled, or its stream "
        "did not open twice.",
        "Its page says why and when it is tried again. “Crawl again” tries one that "
        "is offline now; `bigworld hosts unban` ends a throttling.",
    ),
    AlarmKind.LAG: Explanation(
        "Events come in long after they happened: the ingest falls behind, or catches "
        "up after a pause.",
        "If it does not shrink: see the queue, raise BIGWORLD_SHARDS, give the "
        "database a faster disk.",
    ),
    AlarmKind.HOST_CLOCK: Explanation(
        "A host's clock is ahead of ours: its commits may be refused as coming from "
        "the future.",
        "Tell its operator. If there are several such hosts, check the clock here.",
    ),
    AlarmKind.OUR_CLOCK: Explanation(
        "Several hosts agree that it is later than our clock says.",
        "Set the clock of this machine (NTP): commits are refused meanwhile.",
    ),
    AlarmKind.QUEUE_FULL: Explanation(
        "The queue of frames that wait to be proven is full, so the sockets are read "
        "only as fast as we work.",
        "Nothing is lost. If it stays: raise BIGWORLD_SHARDS, look at the database.",
    ),
    AlarmKind.SEARCH_BEHIND: Explanation(
        "Many search documents wait to be written: search does not show what is new.",
        "See the task drain_search; `bigworld rebuild search` makes it anew.",
    ),
    AlarmKind.REPOS_WAITING: Explanation(
        "Many repos are not in step with their hosts and wait to be fetched.",
        "Normal in the first hours. Else see `bigworld repos --state desynchronized` "
        "for what they fail on.",
    ),
    AlarmKind.BUFFER_FULL: Explanation(
        "Many live events wait until their repos are fetched.",
        "See `bigworld repos --state resyncing`: a fetch that hangs holds them.",
    ),
    AlarmKind.IDENTITIES_WAITING: Explanation(
        "Many DID documents wait to be read: handles and moves are late.",
        "The directory may be slow or refuse us; mirror it, or point BIGWORLD_PLC_URL "
        "at one that is near.",
    ),
    AlarmKind.MIRROR_STUCK: Explanation(
        "The mirror of the PLC directory cannot read on: look-ups go to the directory.",
        "It tries again by itself, and where the directory numbered anew it reads all "
        "again. If the directory was set back, delete its row in plc_feed: all is read "
        "anew, and what is proven stays.",
    ),
    AlarmKind.MANY_DROPS: Explanation(
        "A large part of what comes in is refused for one reason.",
        "docs/operations.md says what the reason means; the hosts' pages say from "
        "whom. One host alone: `bigworld hosts ban`. All hosts: a fault of ours.",
    ),
    AlarmKind.QUARANTINE: Explanation(
        "Our own code failed on inputs: they were set aside with their bytes.",
        "The table quarantined_frame holds them and the error: report it.",
    ),
}

_SILENT_S: Final = 60.0
_LATE_RUNS: Final = 3
_LATE_GRACE_S: Final = 120.0
_NO_WORKER_S: Final = 600.0
# A host is stalled after so many usual pauses between two events, and not before.
_PAUSES: Final = 50.0
# A pause is odd that is twice as long as the longest one lately.
_LONGER: Final = 2.0
_STALL_S: Final = 300.0
_KNOWN_S: Final = 86_400.0
_BUSY_RATE: Final = 1 / 60
_SLOW_SHARE: Final = 0.1
_SLOW_RATE: Final = 0.5
_LAG_S: Final = 120.0
_CLOCK_S: Final = 60.0
_CLOCK_HOSTS: Final = 3
# What a host said of the time longer ago says nothing of its clock now.
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
    """The crawling process had a pulse once and has none now."""
    pulse = snapshot.pulses.get(CRAWL_PULSE)
    if pulse is not None and pulse.age_s > _SILENT_S:
        yield Alarm(AlarmKind.CRAWL_SILENT, "crawl", f"silent for {_span(pulse.age_s)}")


def task_late(snapshot: Snapshot) -> Iterator[Alarm]:
    """A scheduled task did not end for three of its intervals, or no worker was ever
    there while the crawl has been at work for long."""
    tasks = {n: p for n, p in snapshot.pulses.items() if n.startswith(TASK_PULSE)}
    crawl = snapshot.pulses.get(CRAWL_PULSE)
    if not tasks and crawl is not None and crawl.age_s <= _SILENT_S:
        up_s = float(crawl.figures.get("up_s", 0))
        if up_s > _NO_WORKER_S:
            detail = f"none was ever there, {_span(up_s)} after the crawl began"
            yield Alarm(AlarmKind.TASK_LATE, "worker", detail)
    for name, pulse in sorted(tasks.items()):
        every = float(pulse.figures.get("every_s", 0))
        if pulse.age_s > _LATE_RUNS * every + _LATE_GRACE_S:
            detail = f"last done {_span(pulse.age_s)} ago, due every {_span(every)}"
            yield Alarm(AlarmKind.TASK_LATE, name.removeprefix(TASK_PULSE), detail)


def host_stalled(snapshot: Snapshot) -> Iterator[Alarm]:
    """A streamed host that usually sends all the time sends nothing."""
    for host in _streamed(snapshot):
        if host.usual_rate < _BUSY_RATE or host.silent_s is None:
            continue
        # What a new host begins with, its accounts moving in, is not its usual.
        if not host.relay and (host.known_s or 0.0) < _KNOWN_S:
            continue
        longest = max(_STALL_S, _PAUSES / host.usual_rate)
        if not host.relay:
            # One batch a night is a day without any. Relays make no such pauses.
            longest = max(longest, _LONGER * host.usual_gap)
        if host.silent_s > longest:
            detail = (
                f"nothing for {_span(host.silent_s)}, usually {_rate(host.usual_rate)}"
            )
            yield Alarm(AlarmKind.HOST_STALLED, host.hostname, detail)


def host_slow(snapshot: Snapshot) -> Iterator[Alarm]:
    """A streamed host sends, but a tenth of what it usually does."""
    for host in _streamed(snapshot):
        if (
            host.usual_rate >= _SLOW_RATE
            and 0.0 < host.rate < host.usual_rate * _SLOW_SHARE
        ):
            detail = f"{_rate(host.rate)}, usually {_rate(host.usual_rate)}"
            yield Alarm(AlarmKind.HOST_SLOW, host.hostname, detail)


def all_slow(snapshot: Snapshot) -> Iterator[Alarm]:
    """All hosts together bring a tenth of what they usually do."""
    events = snapshot.events
    if events is None or events.usual < _SLOW_RATE:
        return
    if events.rate < events.usual * _SLOW_SHARE:
        detail = f"{_rate(events.rate)}, usually {_rate(events.usual)}"
        yield Alarm(AlarmKind.ALL_SLOW, "all hosts", detail)


def host_away(snapshot: Snapshot) -> Iterator[Alarm]:
    """A relay or a host of our operator's does not answer, or is throttled."""
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
    """What came in lately happened long before."""
    for host in _streamed(snapshot):
        if (
            host.lag_s is not None
            and host.lag_s > _LAG_S
            and host.silent_s is not None
            and host.silent_s < _STALL_S
        ):
            yield Alarm(AlarmKind.LAG, host.hostname, f"{_span(host.lag_s)} behind")


def host_clock(snapshot: Snapshot) -> Iterator[Alarm]:
    """A host dates its events into our future."""
    ahead = [h for h in _heard(snapshot) if h.lag_s is not None and h.lag_s < -_CLOCK_S]
    if len(ahead) >= _CLOCK_HOSTS and any(our_clock(snapshot)):
        return
    for host in ahead:
        assert host.lag_s is not None
        yield Alarm(
            AlarmKind.HOST_CLOCK, host.hostname, f"{_span(-host.lag_s)} ahead of us"
        )


def our_clock(snapshot: Snapshot) -> Iterator[Alarm]:
    """Most of at least three hosts date their events into our future."""
    lags = [host.lag_s for host in _heard(snapshot) if host.lag_s is not None]
    if len(lags) >= _CLOCK_HOSTS and median(lags) < -_CLOCK_S:
        detail = f"{_span(-median(lags))} behind what {len(lags)} hosts say"
        yield Alarm(AlarmKind.OUR_CLOCK, "clock", detail)


def queue_full(snapshot: Snapshot) -> Iterator[Alarm]:
    """The ingest's queue of frames is full."""
    pulse = snapshot.pulses.get(CRAWL_PULSE)
    if pulse is None or pulse.age_s > _SILENT_S:
        return
    size = float(pulse.figures.get("queued_bytes", 0))
    limit = float(pulse.figures.get("queue_bytes", 0))
    if limit > 0 and size >= limit * _FULL_SHARE:
        detail = f"{size / 2**20:.0f} of {limit / 2**20:.0f} MiB"
        yield Alarm(AlarmKind.QUEUE_FULL, "crawl", detail)


def search_behind(snapshot: Snapshot) -> Iterator[Alarm]:
    """The search outbox is long."""
    if snapshot.outbox > _SEARCH_BACKLOG:
        detail = f"{snapshot.outbox:,} documents wait"
        yield Alarm(AlarmKind.SEARCH_BEHIND, "search", detail)


def repos_waiting(snapshot: Snapshot) -> Iterator[Alarm]:
    """A tenth of the repos, and not just a few, are not in step."""
    total, waiting = sum(snapshot.repos.values()), snapshot.waiting
    if waiting > _WAITING_REPOS and waiting > total * _WAITING_SHARE:
        yield Alarm(AlarmKind.REPOS_WAITING, "repos", f"{waiting:,} of {total:,} wait")


def buffer_full(snapshot: Snapshot) -> Iterator[Alarm]:
    """Many events wait for the fetching of their repos."""
    if snapshot.buffered > _BUFFERED:
        detail = f"{snapshot.buffered:,} events wait"
        yield Alarm(AlarmKind.BUFFER_FULL, "resync buffer", detail)


def identities_waiting(snapshot: Snapshot) -> Iterator[Alarm]:
    """Many DID documents wait to be read."""
    waiting = snapshot.jobs.get(_IDENTITY_JOB, 0)
    if waiting > _IDENTITIES:
        yield Alarm(AlarmKind.IDENTITIES_WAITING, "identities", f"{waiting:,} wait")


def mirror_stuck(snapshot: Snapshot) -> Iterator[Alarm]:
    """The export of a mirrored directory cannot be read on."""
    for directory, error in sorted(snapshot.mirrors.items()):
        yield Alarm(AlarmKind.MIRROR_STUCK, directory, error)


def many_drops(snapshot: Snapshot) -> Iterator[Alarm]:
    """One reason takes a large share of what comes in."""
    events = snapshot.events
    if events is None:
        return
    for reason, rate in sorted(snapshot.drop_rates.items()):
        if reason in _HARMLESS or rate < _DROP_RATE:
            continue
        if rate > events.rate * _DROP_SHARE:
            detail = f"{_rate(rate)} of {_rate(events.rate)} in all"
            yield Alarm(AlarmKind.MANY_DROPS, reason, detail)


def quarantine(snapshot: Snapshot) -> Iterator[Alarm]:
    """Inputs were set aside in the last day."""
    if snapshot.quarantined:
        detail = f"{snapshot.quarantined:,} in the last day"
        yield Alarm(AlarmKind.QUARANTINE, "inputs set aside", detail)


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
    repos_waiting,
    buffer_full,
    identities_waiting,
    mirror_stuck,
    many_drops,
    quarantine,
)

_MOST_OF_A_KIND: Final = 20


def find_alarms(snapshot: Snapshot) -> list[Alarm]:
    """Everything that is wrong now; at most twenty of a kind."""
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
