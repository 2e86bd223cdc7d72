"""Frames that wait for a look-up of their account: per account, in their order.

What streams that we trust say of accounts of the directory waits for what answers soon,
or is away for everybody: while that is too much, no new frames should be taken. All
else may wait for a server that somebody chose because it never answers, and holds up
nobody but him: of such accounts a host has so many waiting and no more, and when their
bytes are too many, who has most of them gives up what he said last.
"""

from __future__ import annotations

from typing import Final

from crawler.live.gate_frame import GateFrame
from crawler.settings import CrawlSettings
from protocol.syntax.did import Did, did_method

# What a frame takes besides its bytes, about.
_FRAME_COST: Final = 1_024


class _Share:
    """What one host has waiting: how many frames of which account, the newest last."""

    __slots__ = ("accounts", "size")

    def __init__(self) -> None:
        self.accounts: dict[Did, int] = {}
        self.size = 0


class _Waiting:
    """An account: its frames, and the shares of those who wait for it."""

    __slots__ = ("frames", "shares")

    def __init__(self) -> None:
        self.frames: list[GateFrame] = []
        self.shares: list[_Share] = []


class Parking:
    """Bounded in bytes, in accounts, and in frames that a host has of one account."""

    def __init__(self, settings: CrawlSettings) -> None:
        self._settings = settings
        self._waiting: dict[Did, _Waiting] = {}
        self._sure: dict[int, _Share] = {}
        self._others: dict[int, _Share] = {}
        self._size_of_others = 0

    def __contains__(self, did: Did) -> bool:
        return did in self._waiting

    def __len__(self) -> int:
        """Accounts that wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """True while no new frames should be taken."""
        sure = self._sure.values()
        return (
            sum(share.size for share in sure) >= self._settings.parked_bytes
            or sum(len(share.accounts) for share in sure) >= self._settings.parked_dids
        )

    def has_asked(self, frame: GateFrame) -> bool:
        """Whether the account of a frame waits for its host already."""
        return frame.did in self._share_of(frame).accounts

    def has_room(self, frame: GateFrame) -> bool:
        """Whether one more account may wait for the host of a frame."""
        if _is_sure(frame):
            return True
        most = self._settings.parked_dids_per_host
        return len(self._share_of(frame).accounts) < most

    def put(self, frame: GateFrame) -> bool:
        """Have a frame wait behind those of its account; False if too many do."""
        share = self._share_of(frame)
        waiting = self._waiting.setdefault(frame.did, _Waiting())
        if frame.did not in share.accounts:
            share.accounts[frame.did] = 0
            waiting.shares.append(share)
        if share.accounts[frame.did] >= self._settings.parked_frames_per_did:
            return False
        self._count(frame, 1)
        waiting.frames.append(frame)
        return True

    def shed(self) -> list[GateFrame]:
        """Take out the frames that must be given up. Their accounts go on waiting."""
        shed: list[GateFrame] = []
        while self._size_of_others > self._settings.parked_bytes:
            share = max(self._others.values(), key=lambda share: share.size)
            did = next(did for did in reversed(share.accounts) if share.accounts[did])
            waiting = self._waiting[did]
            frames, waiting.frames = waiting.frames, []
            for frame in frames:
                if self._share_of(frame) is share:
                    self._count(frame, -1)
                    shed.append(frame)
                else:
                    waiting.frames.append(frame)
        return shed

    def take(self, did: Did) -> list[GateFrame]:
        """The frames that waited for an account, which waits no more."""
        waiting = self._waiting.pop(did, None)
        if waiting is None:
            return []
        for frame in waiting.frames:
            self._count(frame, -1)
        for share in waiting.shares:
            del share.accounts[did]
        return waiting.frames

    def _share_of(self, frame: GateFrame) -> _Share:
        shares = self._sure if _is_sure(frame) else self._others
        share = shares.get(frame.stream.host)
        if share is None:
            share = shares[frame.stream.host] = _Share()
        return share

    def _count(self, frame: GateFrame, sign: int) -> None:
        share, size = self._share_of(frame), sign * (len(frame.raw) + _FRAME_COST)
        share.accounts[frame.did] += sign
        share.size += size
        if not _is_sure(frame):
            self._size_of_others += size


def _is_sure(frame: GateFrame) -> bool:
    """Whether nobody but the directory can keep a frame waiting, and nobody whom we
    do not trust sent it."""
    return frame.stream.trusted and did_method(frame.did) == "plc"
