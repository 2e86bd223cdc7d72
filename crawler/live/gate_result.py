"""Input of a round of the gate besides frames, and its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from protocol.events.drops import DropReason
from protocol.events.event import Event
from protocol.syntax.did import Did
from storage.jobs import Naming

# Only a hostile or broken host sends these; honest hosts lag, move and fall behind.
STRIKES: Final = frozenset(
    {
        DropReason.FRAME_TOO_LARGE,
        DropReason.BAD_FRAME,
        DropReason.BAD_SEQ,
        DropReason.BAD_SYNTAX,
        DropReason.WRONG_HOST,
        DropReason.FUTURE_REV,
        DropReason.TOO_MANY_OPS,
        DropReason.BLOCKS_TOO_LARGE,
        DropReason.BAD_CAR,
        DropReason.BAD_COMMIT,
        DropReason.COMMIT_MISMATCH,
        DropReason.BAD_SIGNATURE,
        DropReason.BAD_TREE,
        DropReason.TREE_TOO_LARGE,
        DropReason.OPS_MISMATCH,
        DropReason.PREV_DATA_MISMATCH,
    }
)


@dataclass(frozen=True, slots=True)
class ResetHost:
    """A host that numbers its events anew: its cursor is void.

    `behind` is the new position before its first event, None if unknown.
    """

    host: int
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A frame on which our own code failed, kept for inspection."""

    host: int
    seq: int
    frame: bytes
    error: str


@dataclass(slots=True)
class Lookup:
    """An identity to resolve because frames of the account were dropped.

    `hosts` are those that sent them. `refresh`: a cached document does not do.
    """

    wait: float
    refresh: bool
    hosts: dict[int, Naming] = field(default_factory=dict)

    def merge(self, other: Lookup) -> None:
        """Cover the frames of another lookup of the same DID too."""
        self.wait = min(self.wait, other.wait)
        self.refresh = self.refresh or other.refresh
        for host, naming in other.hosts.items():
            known = self.hosts.get(host, naming)
            self.hosts[host] = Naming(
                max(naming.rev, known.rev),
                naming.in_scope or known.in_scope,
                naming.status or known.status,
            )


@dataclass(slots=True)
class GateResult:
    """Outcome of a round of frames. All but `events` and `marks` is stored first.

    - events: verified, in order per DID
    - marks: host -> cursor that holds once the events are applied
    - drops: (reason, host) -> frames
    - lookups: DIDs to resolve, as their frames could not be judged
    - identities_to_refresh: DIDs whose document may have changed -> seconds to wait
    - to_resync: DIDs with a lost event: their repos must be fetched
    - throttled: DIDs over their commit budget: fetched after the cooldown
    - quarantined: frames on which our own code failed
    - outdated: hosts that no longer keep the events that we miss
    - resets: hosts that number anew -> position before the first event
    - handled: host -> frames handled
    - size: bytes of the frames
    """

    events: list[Event] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)
    drops: Counter[tuple[DropReason, int]] = field(default_factory=Counter)
    lookups: dict[Did, Lookup] = field(default_factory=dict)
    identities_to_refresh: dict[Did, float] = field(default_factory=dict)
    to_resync: set[Did] = field(default_factory=set)
    throttled: set[Did] = field(default_factory=set)
    quarantined: list[Quarantined] = field(default_factory=list)
    outdated: set[int] = field(default_factory=set)
    resets: dict[int, int | None] = field(default_factory=dict)
    handled: Counter[int] = field(default_factory=Counter)
    size: int = 0

    @property
    def has_followups(self) -> bool:
        """Return True if something must be stored before the events."""
        return bool(
            self.lookups
            or self.identities_to_refresh
            or self.to_resync
            or self.throttled
            or self.quarantined
            or self.outdated
        )

    def look_up(self, did: Did, lookup: Lookup) -> None:
        """Add a DID to resolve."""
        known = self.lookups.setdefault(did, lookup)
        if known is not lookup:
            known.merge(lookup)

    def refresh_identity(self, did: Did, wait: float) -> None:
        """Add a DID whose document may have changed."""
        known = self.identities_to_refresh.get(did, wait)
        self.identities_to_refresh[did] = min(known, wait)

    def merge(self, later: GateResult) -> None:
        """Add the outcome of a later round."""
        self.events += later.events
        self.marks |= later.marks
        self.drops.update(later.drops)
        for did, lookup in later.lookups.items():
            self.look_up(did, lookup)
        for did, wait in later.identities_to_refresh.items():
            self.refresh_identity(did, wait)
        self.to_resync |= later.to_resync
        self.throttled |= later.throttled
        self.quarantined += later.quarantined
        self.outdated |= later.outdated
        self.handled.update(later.handled)
        self.size += later.size


def count_strikes(drops: Iterable[tuple[tuple[DropReason, int], int]]) -> Counter[int]:
    """Return host -> strikes, of ((reason, host), how many) pairs."""
    strikes: Counter[int] = Counter()
    for (reason, host), count in drops:
        if reason in STRIKES:
            strikes[host] += count
    return strikes
