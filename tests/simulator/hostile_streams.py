"""Hosts that break the stream itself: sizes, pace, framing, numbers, cursors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from crawl_author import identity_frame
from hostile_host import GET_REPO, LIST_REPOS, HostileHost, Seen, bomb, write_posts
from raw_host import TEXT, Answer, RawSocket, frame_head

from protocol.data import cbor
from protocol.events.drops import DropReason
from protocol.events.frames import encode_error_frame, encode_frame
from protocol.limits import MAX_FRAME_BYTES, MAX_SEQ

_SCREAM = 100_000_000


class OversizeFrame(HostileHost):
    """A frame one byte over the limit."""

    number, fault, troubles = 1, "oversize frame", ("oversize",)

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        self.did[self.fault] += 1
        await socket.send_bytes(frame_head(MAX_FRAME_BYTES + 1))
        for _ in range(50):
            await socket.send_bytes(bytes(100_001))
        await asyncio.sleep(5)


class DeflateBomb(HostileHost):
    """A small frame and a small repo that are huge when decompressed."""

    number, fault = 2, "bomb"

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        payload = bomb(_SCREAM, -15)
        self.did[self.fault] += 1
        await socket.send_bytes(frame_head(len(payload), flags=0xC0) + payload)
        await asyncio.sleep(5)

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method in (GET_REPO, LIST_REPOS):
            self.did["packed body"] += 1
            return Answer(200, bomb(_SCREAM, 31), {"Content-Encoding": "gzip"})
        return await super().answer(method, params)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        if not self.did["packed body"]:
            faults.append("no packed body was asked for")
        return faults + ([] if seen.errors else ["no trouble is told of"])


class Drip(HostileHost):
    """One byte a second, and no reply to pings."""

    number, fault, troubles = 3, "drop", ("silent",)
    patience = 30.0

    def prepare(self) -> None:
        super().prepare()
        self._stays: list[float] = []

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        socket.answers_pings = False
        began = time.monotonic()
        try:
            await socket.send_bytes(frame_head(10_000))
            while True:
                self.did[self.fault] += 1
                await socket.send_bytes(b"\xa2")
                await asyncio.sleep(1)
        finally:
            self._stays.append(time.monotonic() - began)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        # The crawler must leave it and come back.
        if len(self._stays) < 2:
            faults.append(f"it was left {len(self._stays)} times")
        if any(stay > self.patience for stay in self._stays):
            faults.append(f"a connection lasted {max(self._stays):.0f} s")
        return faults


class Garbage(HostileHost):
    """Twelve kinds of invalid frame, one a connection, endlessly."""

    number, fault = 4, "garbage"
    reasons = (DropReason.BAD_FRAME,)

    def prepare(self) -> None:
        super().prepare()
        whole = identity_frame(self.author.did, 1)
        header = cbor.encode({"op": 1, "t": "#identity"})
        self._shapes: list[tuple[bytes, int]] = [
            (b"hello", TEXT),
            (b"", 2),
            (b"\xff" * 100, 2),
            (header, 2),
            (header + b"\xa0" + header, 2),
            (whole + b"\0", 2),
            (whole[:-3], 2),
            (cbor.encode([1, 2]) + whole[len(header) :], 2),
            (cbor.encode({"t": "#identity"}) + cbor.encode({"seq": 1}), 2),
            (header + b"\x9b" + b"\xff" * 8, 2),
            (header + b"\x81" * 5_000 + b"\0", 2),
            (header + b"\xbf\x61a\x01\xff", 2),
        ]

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        payload, opcode = self._shapes[self.did[self.fault] % len(self._shapes)]
        self.did[self.fault] += 1
        await socket.send(payload, opcode)
        await asyncio.sleep(5)


class UnknownEvents(HostileHost):
    """Valid commits between event kinds, operations and fields of the future."""

    number, fault = 5, "unknown"
    serves, honest = (GET_REPO,), True
    reasons = (DropReason.UNKNOWN_EVENT,)

    def prepare(self) -> None:
        super().prepare()
        states = write_posts(self.author, 4, "true words")
        self._frames: list[bytes] = []
        for state in states:
            seq = len(self._frames) + 1
            self._frames.append(state.frame(seq, future="yes", more={"a": [1]}))
            self._frames.append(encode_frame("#future", {"seq": seq + 1}))
        # A frame with an unknown operation does not even have a number.
        header = cbor.encode({"op": 7, "t": "#commit"})
        self._frames.append(header + cbor.encode({"seq": len(self._frames) + 1}))

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        await self.tell(socket, self._frames, cursor)
        self.did[self.fault] += 1
        await asyncio.Event().wait()


class SeqRegress(HostileHost):
    """Valid commits first, then impossible sequence numbers."""

    number, fault = 6, "bad number"
    serves, honest = (GET_REPO,), True
    reasons = (DropReason.BAD_SEQ,)

    def prepare(self) -> None:
        super().prepare()
        states = write_posts(self.author, 5, "true words")
        self._frames = [state.frame(seq) for seq, state in enumerate(states, 1)]
        numbers: list[Any] = [5, 3, 1, 0, -1, MAX_SEQ + 1, 2**62, "6", None, 4.0]
        self._bad = [_numbered(number, self.author.did) for number in numbers]

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        await self.tell(socket, self._frames, cursor)
        while True:
            for frame in self._bad:
                self.did[self.fault] += 1
                await socket.send(frame)
            await asyncio.sleep(0.2)


class FutureCursor(HostileHost):
    """Refuses every cursor as one of the future."""

    number, fault = 7, "future cursor"
    serves, honest = (GET_REPO, LIST_REPOS), True

    def prepare(self) -> None:
        super().prepare()
        write_posts(self.author, 3, "true words")

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        if cursor is not None:
            self.did[self.fault] += 1
            await socket.send(encode_error_frame("FutureCursor"))
            await socket.close()
            await asyncio.sleep(1)
        else:
            self.did["from the tip"] += 1
            await asyncio.Event().wait()

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        if not self.did["from the tip"]:
            faults.append("nobody came without a cursor")
        return faults


class AlwaysOutdated(HostileHost):
    """Keeps no events: it only ever sends OutdatedCursor."""

    number, fault = 8, "outdated"
    serves, honest = (GET_REPO, LIST_REPOS), True

    def prepare(self) -> None:
        super().prepare()
        write_posts(self.author, 3, "true words")

    def own_dids(self) -> list[str]:
        return []

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        while True:
            self.did[self.fault] += 1
            await socket.send(encode_frame("#info", {"name": "OutdatedCursor"}))
            await asyncio.sleep(2)

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == LIST_REPOS:
            self.did["listed"] += 1
        return await super().answer(method, params)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        if self.did["listed"] < 2:
            faults.append("its list was not asked for after it had said so")
        # Each message makes one listing due, not more.
        if self.did["listed"] > self.did[self.fault] + 2:
            faults.append(f"its list was asked for {self.did['listed']} times")
        return faults


def _numbered(number: Any, did: str) -> bytes:
    """Return a frame under any number, even one that no encoder writes."""
    if isinstance(number, float):
        # Frames hold no floats; this one is written by hand.
        raw = identity_frame(did, 6)
        return raw.replace(b"cseq\x06", b"cseq\xfb\x40\x10" + bytes(6))
    body = {"seq": number, "did": did, "time": "2026-01-01T00:00:00Z"}
    return encode_frame("#identity", body)


STREAM_KINDS: tuple[type[HostileHost], ...] = (
    OversizeFrame,
    DeflateBomb,
    Drip,
    Garbage,
    UnknownEvents,
    SeqRegress,
    FutureCursor,
    AlwaysOutdated,
)
