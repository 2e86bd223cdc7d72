"""What readers and look-ups hand their finds to: one pipeline, or a router of many."""

from __future__ import annotations

from typing import Protocol

from crawler.live.pipeline import PipelineStats
from crawler.live.rounds import LookedUp
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
    def lookups_waiting(self) -> int:
        """Accounts whose frames wait for an identity look-up."""

    @property
    def queued_bytes(self) -> int:
        """Bytes of frames that wait to be judged."""

    def add_stream(self, stream: StreamState) -> None:
        """Make a stream known. It takes the place of the host's stream before."""

    async def put(self, stream: StreamState, raw: bytes) -> None:
        """Queue one frame; waits while there is no room."""

    def reset(self, host: int) -> None:
        """Forget a host's cursor: its numbering begins anew."""

    def answer(self, found: LookedUp) -> None:
        """Hand over the answer to a look-up."""

    async def finish(self) -> None:
        """Judge and apply what is queued, then end."""
