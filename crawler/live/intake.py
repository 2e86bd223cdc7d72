"""The interface that readers write to: one pipeline, or a router of several."""

from __future__ import annotations

from typing import Protocol

from crawler.live.pipeline import PipelineStats
from crawler.live.stream_state import StreamState


class Intake(Protocol):
    """Takes the frames of streams in order; `put` waits while it is full.

    Call it on the event loop.
    """

    @property
    def stats(self) -> PipelineStats:
        """Return totals since the start."""

    @property
    def failure(self) -> BaseException | None:
        """Return the error that ended it, None while it works."""

    @property
    def queued_bytes(self) -> int:
        """Return the bytes of frames that wait for the gate."""

    def add_stream(self, stream: StreamState) -> None:
        """Register a stream in place of the host's previous one."""

    async def put(self, stream: StreamState, raw: bytes) -> None:
        """Queue one frame; wait while there is no room."""

    async def reset(self, host: int) -> None:
        """Forget the cursor of a host that numbers its events anew."""

    async def finish(self) -> None:
        """Judge and apply what is queued, then end."""
