"""The interface that readers write to: one pipeline, or a router of several."""

from __future__ import annotations

from typing import Protocol

from crawler.live.pipeline import PipelineStats
from crawler.live.stream_state import StreamState


class Intake(Protocol):
    """Takes frames of streams in their order. Bounded: `put` waits while it is full.

    Call it on the event loop.
    """

    @property
    def stats(self) -> PipelineStats:
        """Totals since the start."""

    @property
    def failure(self) -> BaseException | None:
        """What it failed on; there is no going on then."""

    @property
    def queued_bytes(self) -> int:
        """Bytes of frames that wait to be judged."""

    def add_stream(self, stream: StreamState) -> None:
        """Make a stream known. It takes the place of the host's stream before."""

    async def put(self, stream: StreamState, raw: bytes) -> None:
        """Queue one frame; waits while there is no room."""

    async def reset(self, host: int) -> None:
        """Forget the cursor of a host that numbers its events anew."""

    async def finish(self) -> None:
        """Judge and apply what is queued, then end."""
