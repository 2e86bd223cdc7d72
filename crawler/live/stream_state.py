"""One open stream, shared by its reader (event loop) and the gate (a thread).

Every field has one writer, so no lock is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from crawler.hosts.host_name import HostName


class Fault(StrEnum):
    """Reason to close a stream."""

    BAD_FRAME = "bad_frame"
    BAD_SEQ = "bad_seq"
    ERROR = "error"


def _nothing() -> None:
    return None


@dataclass(slots=True)
class StreamState:
    """The state of a stream. The reader writes `received`, the gate all else.

    - last_seq: the newest frame handled, or the cursor of the start
    - resumed_at: the cursor of the start, 0 for none
    - from_tip: the stream began without a cursor
    - throttled: frames over the budget of their accounts
    - newest: the `time` of the newest frame, as sent
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
        """Close the stream; its queued frames are ignored."""
        self.fault, self.detail = fault, detail[:200]
        self.on_fault()


# Not frozen: made for each frame, and frozen ones are slower.
@dataclass(slots=True)
class Arrival:
    """One raw frame of a stream, or None to say that the stream came to `before`.

    `before` is the position of the whole stream ahead of the frame, where a shard gets
    only some of its frames.
    """

    stream: StreamState
    raw: bytes | None
    before: int = 0
