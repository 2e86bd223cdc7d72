"""Connects and disconnects of a stream client, and its times."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class DisconnectReason(StrEnum):
    """The reason why a connection ended or failed. A closed set: metric labels."""

    CLOSED = "closed"
    LOST = "lost"
    SILENT = "silent"
    OVERSIZE = "oversize"
    TEXT_FRAME = "text_frame"
    DROPPED = "dropped"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    FORBIDDEN = "forbidden"
    REFUSED = "refused"
    BUSY = "busy"
    SERVER_ERROR = "server_error"


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection was opened, with this cursor."""

    url: str
    cursor: int | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection ended or failed to open.

    `failures` counts those in a row; `retry_in` is the pause in seconds, None if there
    is no retry.
    """

    url: str
    reason: DisconnectReason
    detail: str
    failures: int
    retry_in: float | None


StreamEvent: TypeAlias = Connected | Disconnected


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """The times of a stream, in seconds.

    The pause before try n is random up to first * 2**(n - 1), at most `longest` (full
    jitter). A peer silent for `ping_after` is pinged, and dropped after `pong_within`
    more. A connection that lasted `stable_after` clears the failures. One that the
    peer ends after `contact_after` counts like a frame: quiet hosts send none.
    """

    first: float = 1.0
    longest: float = 300.0
    ping_after: float = 30.0
    pong_within: float = 30.0
    stable_after: float = 30.0
    contact_after: float = 5.0

    def pause(self, failures: int, fraction: float) -> float:
        """Return the pause after some failures; `fraction` is random in [0, 1)."""
        doublings = min(max(failures - 1, 0), 30)
        return fraction * min(self.longest, self.first * 2.0**doublings)
