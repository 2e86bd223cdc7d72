"""Rates of hosts, and the choice between stream and poll.

Busy hosts are streamed, quiet ones are polled. The rates that move a host onto a stream
and off it differ, so that hosts do not move back and forth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from storage.hosts.host_rows import MODE_POLL, MODE_STREAM

# A host must be so much busier to take the stream of another.
_TO_DISPLACE: Final = 1.25
# A weekend's pause is remembered until the next one; unusual pauses fade.
_GAP_HALF_LIFE: Final = 14 * 86_400.0


@dataclass(frozen=True, slots=True)
class ActivityBounds:
    """Rates in events a second, times in seconds.

    - most: streams that may be open
    - busy: a polled host with this rate is streamed
    - quiet: a streamed host below this rate is polled
    - dwell: a host stays on its stream for so long at least
    """

    most: int
    busy: float
    quiet: float
    dwell: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host to be streamed or polled. `kept` hosts are always streamed: relays and
    configured hosts. A `relay` cannot be polled."""

    id: int
    mode: str
    rate: float
    moved: float
    kept: bool = False
    relay: bool = False


def smooth(rate: float, events: float, seconds: float, window: float) -> float:
    """Return the rate after `events` more in `seconds`, as an exponential mean: what
    lies a `window` back weighs a third."""
    if seconds <= 0.0:
        return rate
    weight = -math.expm1(-seconds / window)
    return rate + weight * (events / seconds - rate)


def usual_window(age: float, *, shortest: float, longest: float) -> float:
    """Return the window of a usual rate: the time since the first event, `longest` at
    most."""
    return min(longest, max(shortest, age))


def usual_gap(usual: float, seconds: float, pause: float) -> float:
    """Return the longest usual pause of a host, after a `pause` that just ended (0 for
    none). Older pauses have faded for `seconds`."""
    return max(usual * math.exp2(-seconds / _GAP_HALF_LIFE), pause)


def next_poll(
    every: float | None, changed: bool, *, first: float, most: float
) -> float:
    """Return the seconds until the next poll: `first` after a change, then doubled up
    to `most`."""
    if changed or every is None or every < first:
        return first
    return min(most, every * 2.0)


def choose_modes(
    candidates: Iterable[Candidate], bounds: ActivityBounds
) -> dict[int, str]:
    """Return host -> mode for the hosts that change theirs."""
    wanting: list[Candidate] = []
    resting: list[Candidate] = []
    for candidate in candidates:
        (wanting if _wants_stream(candidate, bounds) else resting).append(candidate)
    wanting.sort(key=_rank)
    places = max(0, bounds.most - sum(one.relay for one in wanting))
    streamed = [one for one in wanting if one.relay]
    others = [one for one in wanting if not one.relay]
    streamed += others[:places]
    resting += others[places:]
    return _changes(streamed, MODE_STREAM) | _changes(resting, MODE_POLL)


def _changes(candidates: Sequence[Candidate], mode: str) -> dict[int, str]:
    return {one.id: mode for one in candidates if one.mode != mode}


def _wants_stream(candidate: Candidate, bounds: ActivityBounds) -> bool:
    if candidate.relay or candidate.kept or candidate.rate >= bounds.busy:
        return True
    return candidate.mode == MODE_STREAM and (
        candidate.rate >= bounds.quiet or candidate.moved < bounds.dwell
    )


def _rank(candidate: Candidate) -> tuple[bool, float, int]:
    """Return a sort key: configured hosts first, then the busiest."""
    bonus = _TO_DISPLACE if candidate.mode == MODE_STREAM else 1.0
    return (not candidate.kept, -candidate.rate * bonus, candidate.id)
