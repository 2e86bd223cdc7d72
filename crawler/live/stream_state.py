"""One open stream, shared by its reader (event loop) and the gate (a thread).

Every field has one writer, so no lock is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from crawler.hosts.host_name import HostName


class Fault(StrEnum):
    """Why a stream must be closed."""

    BAD_FRAME = "bad_frame"
    BAD_SEQ = "bad_seq"
    ERROR = "error"


def _nothing() -> None:
    return None


@dataclass(slots=True)
class StreamState:
    """Written by the reader: `received`. Written by the gate: all that can change.

    last_seq    the newest frame handled, or where the stream was resumed
    resumed_at  the cursor given at the start, 0 for none
    from_tip    no cursor was given: it begins with what comes next
    throttled   frames that were not even proven, for their accounts write too much
    newest      the `time` of the newest frame, as sent
    """

    host: int
    hostname: HostName
    relay: bool = False
    trusted: bool = False
    last_seq: int = 0
    resumed_at: int = 0
    from_tip: bool = False
    received: int = 0
    handled: int = 0
    bad_seqs: int = 0
    throttled: int = 0
    newest: str | None = None
    fault: Fault | None = None
    detail: str = ""
    on_fault: Callable[[], None] = field(default=_nothing)

    def fail(self, fault: Fault, detail: str) -> None:
        """Close the stream: frames of it that still wait are passed over."""
        self.fault, self.detail = fault, detail[:200]
        self.on_fault()


# Not frozen: one is made for each frame, and freezing makes that dearer.
@dataclass(slots=True)
class Arrival:
    """One raw frame of a stream, or None: only that the stream came to `before`.

    `before` is the position of the whole stream ahead of the frame, where this process
    gets only some of its frames.
    """

    stream: StreamState
    raw: bytes | None
    before: int = 0
