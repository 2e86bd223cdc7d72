"""What goes into a round of the gate besides frames, and what comes out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from protocol.events.drops import DropReason
from protocol.events.event import Event
from protocol.identity.did_document import DidDocument
from protocol.syntax.did import Did

# Each of these takes ill will or a broken host; honest ones lag, move and fall behind.
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
class LookedUp:
    """The answer to a look-up.

    `document` is None when there is no usable one. `failed`: nobody could be asked,
    so what was known before still holds. `gone`: the DID was given up for good.
    """

    did: Did
    document: DidDocument | None
    failed: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class ResetHost:
    """A host's numbering begins anew: its cursor means nothing any more.

    `behind` is the position behind which it begins, where that is known.
    """

    host: int
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A frame that made our own code fail: kept with its bytes, for a person."""

    host: int
    seq: int
    frame: bytes
    error: str


@dataclass(slots=True)
class Passed:
    """What a round of frames came to.

    events         verified, in order per DID
    marks          host -> the cursor that is safe once the events are applied
    drops          (reason, host) -> how many
    identities     DIDs whose document must be read again; those to wait for first
    distrusted     DIDs whose event was lost: their repos must be compared anew
    throttled      DIDs that wrote too much at once: to be compared once they are calm
    set_aside      frames that our own code failed on
    outdated       hosts that no longer keep what we miss: to be compared in full
    resets         hosts whose numbering begins anew -> behind which position
    handled        host -> frames handled
    size           bytes of the frames that came in
    """

    events: list[Event] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)
    drops: Counter[tuple[DropReason, int]] = field(default_factory=Counter)
    identities: dict[Did, float] = field(default_factory=dict)
    distrusted: set[Did] = field(default_factory=set)
    throttled: set[Did] = field(default_factory=set)
    set_aside: list[SetAside] = field(default_factory=list)
    outdated: set[int] = field(default_factory=set)
    resets: dict[int, int | None] = field(default_factory=dict)
    handled: Counter[int] = field(default_factory=Counter)
    size: int = 0

    @property
    def doubts(self) -> bool:
        """Whether something must be looked into, be there events or not."""
        return bool(
            self.identities
            or self.distrusted
            or self.throttled
            or self.set_aside
            or self.outdated
        )


def count_strikes(
    drops: Iterable[tuple[tuple[DropReason, int], int]],
) -> Counter[int]:
    """Return host -> strikes, of ((reason, host), how many) pairs."""
    strikes: Counter[int] = Counter()
    for (reason, host), count in drops:
        if reason in STRIKES:
            strikes[host] += count
    return strikes
