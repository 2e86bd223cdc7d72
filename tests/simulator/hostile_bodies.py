"""Hosts that mislead or exhaust their clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from crawl_author import Author, account_frame, post
from hostile_accounts import FrameTeller
from hostile_host import CAR, DESCRIBE, FORGED, GET_REPO, LIST_REPOS, HostileHost, Seen
from raw_host import Answer, RawSocket
from simulated_network import Canary, document

from protocol.data import cbor
from protocol.data.cid import Cid, cid_for
from protocol.events.drops import DropReason
from protocol.mst import height
from protocol.mst.node import shared_prefix
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax import tid_from_int, tid_to_int

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PAGE = 1_000


class EndlessCar(HostileHost):
    """An endless repo of blocks that nothing refers to."""

    number, fault = 16, "endless block"
    serves = (LIST_REPOS,)

    def prepare(self) -> None:
        super().prepare()
        path = f"app.bsky.feed.post/{self.author.new_rkey()}"
        self.author.write([("create", path, post(FORGED))])

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == GET_REPO:
            return Answer(200, self._blocks(), CAR)
        return await super().answer(method, params)

    async def _blocks(self) -> AsyncIterator[bytes]:
        commit = self.author.commit
        yield car_header(cid_for(commit)) + car_block(cid_for(commit), commit)
        for number in itertools.count():
            self.did[self.fault] += 1
            block = number.to_bytes(8, "big") * 8_000
            yield car_block(cid_for(block), block)
            await asyncio.sleep(0.01)


class WideTree(FrameTeller):
    """A tree with a node of more entries than hashing could produce."""

    number, fault = 17, "wide tree"
    serves = (LIST_REPOS,)
    reasons = (DropReason.TREE_TOO_LARGE,)

    def prepare(self) -> None:
        super().prepare()
        self.author.write([])
        value = cbor.encode(post(FORGED))
        low = [
            key
            for key in (b"app.bsky.feed.post/%05d" % n for n in range(600))
            if height(key) == 0
        ]
        node = cbor.encode({"e": _entries(low[:300], cid_for(value)), "l": None})
        self.author.data = cid_for(node)
        self.author.rev = tid_from_int(tid_to_int(self.author.rev) + 1024)
        self.author.commit = commit = sign_commit(
            self.author.did, self.author.data, self.author.rev, self.author.key
        )
        self._repo = car_header(cid_for(commit)) + b"".join(
            car_block(cid_for(block), block) for block in (commit, node, value)
        )

    def frames(self) -> Sequence[Any]:
        op = {
            "action": "create",
            "path": "app.bsky.feed.post/00001",
            "cid": Cid(cid_for(cbor.encode(post(FORGED)))),
        }
        return [
            lambda seq: self.author.frame(
                seq,
                rev=self.author.rev,
                commit=Cid(cid_for(self.author.commit)),
                blocks=self._repo,
                ops=[op],
            )
        ]

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == GET_REPO:
            self.did["wide repo"] += 1
            return Answer(200, self._repo, CAR)
        return await super().answer(method, params)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        return faults + ([] if self.did["wide repo"] else ["no repo was fetched"])


def _entries(keys: Sequence[bytes], cid: bytes) -> list[dict[str, Any]]:
    """Return the entries of a node, with prefix compression."""
    found: list[dict[str, Any]] = []
    before = b""
    for key in keys:
        shared = shared_prefix(before, key)
        entry = {"p": shared, "k": key[shared:], "v": Cid(cid), "t": None}
        found.append(entry)
        before = key
    return found


class RedirectsInside(HostileHost):
    """Redirects every request to 127.0.0.1."""

    number, fault = 18, "redirect"

    async def upgrade(self, cursor: int | None) -> Answer:
        self.did["redirect of a stream"] += 1
        return self._away("/xrpc/com.atproto.sync.subscribeRepos")

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        # The first request must succeed, or the stream is never opened.
        if method == DESCRIBE and self.asked[DESCRIBE] == 1:
            return await super().answer(method, params)
        self.did[self.fault] += 1
        self.did[f"redirect of {method}"] += 1
        return self._away(f"/xrpc/{method}")

    def _away(self, path: str) -> Answer:
        return Answer(302, b"", {"Location": self.network.canary.url + path})

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        for what in ("a stream", GET_REPO, LIST_REPOS):
            if not self.did[f"redirect of {what}"]:
                faults.append(f"{what} was not asked for")
        return faults


class RebindingNames(HostileHost):
    """Its names resolve to itself first, and to 127.0.0.1 later."""

    number, fault = 19, "stream of a name"

    def prepare(self) -> None:
        super().prepare()
        _, _, port = self.url.rpartition(":")
        own = self.url.removeprefix("http://").partition(":")[0]
        self._urls = [f"http://{kind}.sim.net:{port}" for kind in ("turns", "both")]
        self._urls.append(f"http://inside.sim.net:{port}")
        self.network.names |= {
            "turns.sim.net": [[own], [own], ["127.0.0.1"]],
            "both.sim.net": [["127.0.0.1", own], ["127.0.0.1", own], ["127.0.0.1"]],
            "inside.sim.net": [["127.0.0.1"]],
        }
        # The same port on loopback.
        self.trap = Canary()
        self.network.loop.run(self.trap.open("127.0.0.1", int(port)))

    async def shut(self) -> None:
        with contextlib.suppress(AttributeError):
            await self.trap.shut()
        await super().shut()

    def urls(self) -> list[str]:
        return self._urls

    def own_dids(self) -> list[str]:
        return []

    async def stream(self, socket: RawSocket, cursor: int | None) -> None:
        self.did[self.fault] += 1
        await asyncio.sleep(0.2)
        await socket.close()

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        if self.trap.connections:
            faults.append(f"{self.trap.connections} connections to loopback")
        if not any("no public address" in error for error in seen.errors):
            faults.append(f"no name was refused: {sorted(seen.errors)[:5]}")
        return faults


class EndlessListing(HostileHost):
    """A listing that repeats cursors and pages."""

    number, fault = 20, "page"

    def prepare(self) -> None:
        super().prepare()
        self._listed = [Author(9_700 + n) for n in range(5)]
        for author in self._listed:
            author.write([])

    def own_dids(self) -> list[str]:
        return []

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method != LIST_REPOS:
            return await super().answer(method, params)
        self.did[self.fault] += 1
        page = self.listing(*self._listed)
        again = b'{"cursor": "%d", ' % (self.did[self.fault] // 2)
        assert isinstance(page.body, bytes)
        return Answer(200, again + page.body[1:], page.headers)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        # The listing stops at the first repetition.
        if self.did[self.fault] > 4:
            faults.append(f"{self.did[self.fault]} pages were asked for")
        return faults


class MillionAccounts(FrameTeller):
    """An endless listing of its own accounts, all of which exist."""

    number, fault = 21, "spam"
    reasons = (DropReason.HOST_BUDGET,)
    rounds = 10_000
    pause = 0.2

    def prepare(self) -> None:
        super().prepare()
        self.network.directory.others = self._find
        self._told = 0

    def own_dids(self) -> list[str]:
        return []

    def _find(self, did: str) -> dict[str, Any] | None:
        if not did.startswith("did:plc:spamspam"):
            return None
        self.did["resolved"] += 1
        return document(did, "spam.test", self.url, self.author.did_key)

    def frames(self) -> Sequence[Any]:
        start, self._told = self._told, self._told + 50
        return [
            lambda seq, n=n: account_frame(spam_did(5_000_000 + n), seq, True)
            for n in range(start, self._told)
        ]

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method != LIST_REPOS:
            return await super().answer(method, params)
        page = int(params.get("cursor", 0))
        self.did["page"] += 1
        repos = [
            {
                "did": spam_did(page * _PAGE + n),
                "head": "b",
                "rev": "3kaaaaaaaaa22",
                "active": True,
            }
            for n in range(_PAGE)
        ]
        return Answer.of_json({"repos": repos, "cursor": str(page + 1)})

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        if not 0 < seen.accounts <= 100:
            faults.append(f"{seen.accounts} accounts were admitted")
        if self.did["resolved"] > 2_000:
            faults.append(f"{self.did['resolved']} lookups for one host")
        return faults


def spam_did(number: int) -> str:
    """Return one of a million DIDs."""
    text = ""
    for _ in range(16):
        number, rest = divmod(number, 26)
        text += _LETTERS[rest]
    return f"did:plc:spamspam{text}"


class Flapping(HostileHost):
    """Fails at random, with odd Retry-After values."""

    number, fault = 23, "refusal"

    def prepare(self) -> None:
        super().prepare()
        self._replies = itertools.cycle(
            [
                Answer(500, b"<html>oh</html>"),
                Answer(429, b"", {"Retry-After": "-1"}),
                Answer(502, b"<html>" * 1_000),
                Answer(429, b"{}", {"Retry-After": "soon"}),
                Answer(503, b"", {"Retry-After": "0"}),
                Answer(429, b"", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
                Answer(429, b"", {"Retry-After": "9e9"}),
            ]
        )

    async def upgrade(self, cursor: int | None) -> Answer:
        self.did[self.fault] += 1
        return next(self._replies)

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method == DESCRIBE and self.asked[DESCRIBE] == 1:
            return await super().answer(method, params)
        self.did[self.fault] += 1
        return next(self._replies)

    def find_faults(self, seen: Seen) -> list[str]:
        faults = super().find_faults(seen)
        # Fifteen tries of a stream before it is left alone, a few of everything else.
        if self.did[self.fault] > 20 + 2 * seen.seconds:
            faults.append(f"asked {self.did[self.fault]} times")
        return faults + ([] if seen.errors else ["no trouble is told of"])


BODY_KINDS: tuple[type[HostileHost], ...] = (
    EndlessCar,
    WideTree,
    RedirectsInside,
    RebindingNames,
    EndlessListing,
    MillionAccounts,
    Flapping,
)
