"""Frames that wait for a look-up of their account: per account, in their order."""

from __future__ import annotations

from crawler.gate_frame import GateFrame
from crawler.settings import CrawlSettings
from protocol.syntax.did import Did


class Parking:
    """Bounded in bytes, in accounts, and in frames of one account."""

    def __init__(self, settings: CrawlSettings) -> None:
        self._settings = settings
        self._waiting: dict[Did, list[GateFrame]] = {}
        self._bytes = 0

    def __contains__(self, did: Did) -> bool:
        return did in self._waiting

    def __len__(self) -> int:
        """Accounts that wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """True while so much waits that no new frames should be taken."""
        settings = self._settings
        return (
            self._bytes >= settings.parked_bytes
            or len(self._waiting) >= settings.parked_dids
        )

    def put(self, frame: GateFrame) -> bool:
        """Have a frame wait behind those of its account; False if too many do."""
        queue = self._waiting.setdefault(frame.did, [])
        if len(queue) >= self._settings.parked_frames_per_did:
            return False
        self._bytes += len(frame.raw)
        queue.append(frame)
        return True

    def take(self, did: Did) -> list[GateFrame]:
        """The frames that waited for an account, which waits no more."""
        frames = self._waiting.pop(did, [])
        self._bytes -= sum(len(frame.raw) for frame in frames)
        return frames
