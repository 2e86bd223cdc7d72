"""Hosts that send false events about accounts: those of others, and their own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from crawl_author import Author, account_frame, identity_frame, post
from hostile_host import (
    CAR,
    FORGED,
    GET_REPO,
    LIST_REPOS,
    HostileHost,
    Seen,
    forger_of,
    write_posts,
)
from raw_host import Answer, RawSocket

from protocol.data.cid import Cid
from protocol.events.drops import DropReason
from protocol.identity.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.repo.car import read_car


class FrameTeller(HostileHost):
    """Sends its frames round after round, under new numbers."""

    rounds = 20
    pause = 0.5

    def frames(self) -> Sequence[Any]:
        """Return the frames of the next round, as functions of a number."""
        raise NotImplementedError

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        seq = cursor or 0
        for _ in range(self.rounds):
            for frame in self.frames():
                seq += 1
                self.did[self.fault] += 1
                await socket.send(frame(seq))
            await asyncio.sleep(self.pause)
        await asyncio.Event().wait()


class ForeignAccounts(FrameTeller):
    """Sends frames for honest accounts, some signed with stolen keys."""

    number, fault = 9, "foreign frame"
    reasons = (DropReason.WRONG_HOST,)

    def prepare(self) -> None:
        super().prepare()
        self._forgers = [forger_of(self.network, n) for n in range(8)]
        for forger in self._forgers:
            write_posts(forger, 1, FORGED)

    def frames(self) -> Sequence[Any]:
        found: list[Any] = []
        for forger in self._forgers:
            found += [forger.frame, forger.sync_frame]
            found.append(
                lambda seq, did=forger.did: account_frame(did, seq, False, "deleted")
            )
            found.append(lambda seq, did=forger.did: identity_frame(did, seq, "x.test"))
        return found

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == LIST_REPOS:
            return self.listing(*self._forgers)
        if method == GET_REPO:
            for forger in self._forgers:
                if forger.did == params.get("did"):
                    return Answer(200, forger.repo(), CAR)
        return await super().answer(method, params)


class Replays(FrameTeller):
    """Valid commits, over and over, under new numbers."""

    number, fault = 10, "replay"
    serves, honest = (GET_REPO,), True
    reasons = (DropReason.STALE_REV,)

    def prepare(self) -> None:
        super().prepare()
        self._states = write_posts(self.author, 5, "true words")

    def frames(self) -> Sequence[Any]:
        return [state.frame for state in self._states]


class WrongKey(FrameTeller):
    """Signs its own account and repo with a key that its document does not name."""

    number, fault = 11, "wrong key"
    serves = (GET_REPO,)
    reasons = (DropReason.BAD_SIGNATURE,)

    def prepare(self) -> None:
        super().prepare()
        self.author.key = Author(9_900).key
        self._states = write_posts(self.author, 3, FORGED)

    def frames(self) -> Sequence[Any]:
        return [state.frame for state in self._states] + [self.author.sync_frame]

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == GET_REPO:
            self.did["forged repo"] += 1
        return await super().answer(method, params)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        return faults + ([] if self.did["forged repo"] else ["no repo was fetched"])


class HighSKey:
    """A key that signs with the high S value."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.public = key.public

    def sign(self, message: bytes) -> bytes:
        order = K256_ORDER if self._key.curve == "k256" else P256_ORDER
        signature = self._key.sign(message)
        high = order - int.from_bytes(signature[32:], "big")
        return signature[:32] + high.to_bytes(32, "big")


class HighS(WrongKey):
    """Signatures of the right key in the forbidden high-S form."""

    number, fault = 12, "high-S signature"

    def prepare(self) -> None:
        HostileHost.prepare(self)
        self.author.key = HighSKey(self.author.key)  # type: ignore[assignment]
        self._states = write_posts(self.author, 3, FORGED)


class FutureRev(FrameTeller):
    """Revisions an hour ahead: no valid commit could follow them."""

    number, fault = 13, "future revision"
    reasons = (DropReason.FUTURE_REV,)

    def prepare(self) -> None:
        super().prepare()
        self.author.now_us = time.time_ns() // 1_000 + 3_600_000_000
        self._states = write_posts(self.author, 3, FORGED)

    def frames(self) -> Sequence[Any]:
        return [state.frame for state in self._states] + [self.author.sync_frame]


class LyingOperations(FrameTeller):
    """Valid signed trees with operations that do not match them."""

    number, fault = 14, "lie"
    reasons = (DropReason.OPS_MISMATCH, DropReason.PREV_DATA_MISMATCH)

    def prepare(self) -> None:
        super().prepare()
        write_posts(self.author, 4, FORGED)
        first, second = (f"app.bsky.feed.post/{FORGED}{n}" for n in "ab")
        self.author.write([("create", first, post(FORGED))])
        self.author.write([("create", second, post(FORGED))])
        [op] = self.author._body["ops"]
        cid = op["cid"]
        self._lies: list[list[dict[str, Any]]] = [
            [],
            [op, op],
            [{**op, "path": first}],
            [{**op, "action": "update", "prev": cid}],
            [{**op, "prev": cid}],
            [{"action": "delete", "path": op["path"], "cid": None, "prev": cid}],
            [{**op, "cid": Cid(cid.raw[:-1] + b"\0")}],
            [op, {**op, "path": first}],
        ]

    def frames(self) -> Sequence[Any]:
        return [
            lambda seq, ops=ops: self.author.frame(seq, ops=ops) for ops in self._lies
        ]


class TruncatedCar(FrameTeller):
    """Repos and commits cut off between two blocks."""

    number, fault = 15, "cut frame"
    serves = (LIST_REPOS,)
    reasons = (DropReason.MISSING_BLOCK, DropReason.BAD_CAR, DropReason.BAD_TREE)

    def prepare(self) -> None:
        super().prepare()
        self._draw = random.Random(15)
        for _ in range(8):
            ops = [
                (
                    "create",
                    f"app.bsky.feed.post/{self.author.new_rkey()}",
                    post(f"{FORGED} {n}"),
                )
                for n in range(30)
            ]
            self.author.write(ops)

    def frames(self) -> Sequence[Any]:
        blocks = self.author._body["blocks"]
        cuts = cut_places(blocks)
        return [
            lambda seq, cut=cut: self.author.frame(seq, blocks=blocks[:cut])
            for cut in cuts[1:-1]
        ]

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == GET_REPO:
            self.did["cut repo"] += 1
            repo = self.author.repo()
            return Answer(200, repo[: self._draw.choice(cut_places(repo)[1:-1])], CAR)
        return await super().answer(method, params)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        return faults + ([] if self.did["cut repo"] else ["no repo was fetched"])


def cut_places(car: bytes) -> list[int]:
    """Return the offsets where the header and the blocks of a CAR file end."""
    places = []
    position = 0
    while position < len(car):
        size = shift = 0
        while True:
            byte = car[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += size
        places.append(position)
    assert len(places) == len(read_car(car).blocks) + 1
    return places


class IdentityFlood(FrameTeller):
    """Sends identity events only: of its own account and of unknown ones."""

    number, fault = 22, "identity event"
    reasons = (DropReason.WRONG_HOST, DropReason.HOST_BUDGET)
    unknown = 300

    def frames(self) -> Sequence[Any]:
        own = [
            lambda seq: identity_frame(self.author.did, seq, "flood.test")
            for _ in range(200)
        ]
        others = [
            lambda seq, did=did: identity_frame(did, seq)
            for did in map(flood_did, range(self.unknown))
        ]
        return own + others

    def find_faults(self, seen: Seen) -> list[str]:
        asked = seen.asked.get(f"/{self.author.did}", 0)
        if asked > 3 + seen.seconds / 5:
            return [f"{asked} lookups in {seen.seconds:.0f} s for one account"]
        unknown = sum(n for name, n in seen.asked.items() if "floodflood" in name)
        # A burst of two hundred, then one a second.
        if unknown > 250 + 2 * seen.seconds:
            return [f"{unknown} lookups of unknown accounts"]
        return super().find_faults(seen)


_LETTERS = str.maketrans("0189", "abcd")


def flood_did(number: int) -> str:
    """Return a DID that does not exist."""
    return "did:plc:" + "flood" * 4 + f"{number:04d}".translate(_LETTERS)


class FormerHost(FrameTeller):
    """Held an account that has moved, and now reports it as deleted."""

    number, fault = 24, "last words"
    reasons = (DropReason.WRONG_HOST,)

    def prepare(self) -> None:
        super().prepare()
        self._forger = forger_of(self.network, 24)
        write_posts(self._forger, 2, FORGED)

    def own_dids(self) -> list[str]:
        return [self._forger.did]

    def frames(self) -> Sequence[Any]:
        did = self._forger.did
        return [
            lambda seq: account_frame(did, seq, False, "deleted"),
            lambda seq: identity_frame(did, seq, "former.test"),
            lambda seq: account_frame(did, seq, False, "takendown"),
            self._forger.frame,
            self._forger.sync_frame,
            lambda seq: account_frame(did, seq, True),
        ]

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == GET_REPO and params.get("did") == self._forger.did:
            return Answer(200, self._forger.repo(), CAR)
        if method == LIST_REPOS:
            return self.listing(self._forger)
        return await super().answer(method, params)


ACCOUNT_KINDS: tuple[type[HostileHost], ...] = (
    ForeignAccounts,
    Replays,
    WrongKey,
    HighS,
    FutureRev,
    LyingOperations,
    TruncatedCar,
    IdentityFlood,
    FormerHost,
)
