"""Base class of the hostile hosts, and the checks that each was handled."""

from __future__ import annotations

import copy
import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crawl_author import Author, post
from oracle import Expected
from raw_host import Answer, RawHost, RawSocket
from simulated_network import SimulatedNetwork

from protocol.data.cid import cid_for, cid_to_text
from protocol.events.drops import DropReason

LIST_REPOS = "com.atproto.sync.listRepos"
GET_REPO = "com.atproto.sync.getRepo"
DESCRIBE = "com.atproto.server.describeServer"
FORGED = "forged"
"""Stands in every record that must not be kept."""

CAR = {"Content-Type": "application/vnd.ipld.car"}


@dataclass(frozen=True)
class Seen:
    """The crawler's tables about one host, and the requests to the directory."""

    drops: Mapping[str, int]
    errors: frozenset[str]
    accounts: int
    asked: Mapping[str, int]
    seconds: float


class HostileHost(RawHost):
    """One kind of attack, counted in `did` under `fault`.

    The tables must name it by one of `reasons` (drops) and by all `troubles` (words of
    the host's error). Methods in `serves` are answered truthfully for its own author.
    """

    number = 0
    fault = ""
    reasons: Sequence[DropReason] = ()
    troubles: Sequence[str] = ()
    serves: Sequence[str] = ()
    honest = False
    """True if its own author must be in the index in the end."""

    def __init__(self, network: SimulatedNetwork) -> None:
        super().__init__()
        self.network = network
        self.author = Author(9_000 + self.number, "p256" if self.number % 4 else "k256")

    def prepare(self) -> None:
        """Set up, once the host has a URL and before the crawler starts."""
        handle = f"hostile{self.number}.test"
        directory = self.network.directory
        directory.put(self.author.did, handle, self.url, self.author.did_key)

    def urls(self) -> list[str]:
        """Return the URLs under which the crawler knows it."""
        return [self.url]

    def own_dids(self) -> list[str]:
        """Return the accounts that the crawler has admitted already."""
        return [self.author.did]

    def truth(self) -> list[Expected]:
        """Return the accounts that must be in the index in the end."""
        return [true_account(self.author, self.url)] if self.honest else []

    async def answer(self, method: str, params: Mapping[str, str]) -> Answer:
        if method not in self.serves:
            return await super().answer(method, params)
        if method == GET_REPO:
            return Answer(200, self.author.repo(), CAR)
        return self.listing(self.author)

    def find_faults(self, seen: Seen) -> list[str]:
        """Return the reasons why the attack was not met or not handled."""
        faults = []
        if self.did[self.fault] == 0:
            faults.append(f"{self.fault!r} never happened: {dict(self.did)}")
        if self.reasons and not any(seen.drops.get(r) for r in self.reasons):
            faults.append(f"not counted: {dict(seen.drops)}")
        for word in self.troubles:
            if not any(word in error for error in seen.errors):
                faults.append(f"{word!r} is not told of: {sorted(seen.errors)[:5]}")
        return faults

    def listing(self, *authors: Author) -> Answer:
        return Answer.of_json(
            {
                "repos": [
                    {
                        "did": author.did,
                        "head": cid_to_text(cid_for(author.commit)),
                        "rev": author.rev,
                        "active": True,
                    }
                    for author in authors
                ]
            }
        )

    async def tell(
        self, socket: RawSocket, frames: Sequence[bytes], cursor: int | None
    ) -> None:
        """Send frames numbered from 1, those after the cursor."""
        for frame in frames[cursor or 0 :]:
            await socket.send(frame)


def write_posts(author: Author, count: int, text: str) -> list[Author]:
    """Write `count` commits; return copies of the author after each."""
    states = []
    for number in range(count):
        path = f"app.bsky.feed.post/{author.new_rkey()}"
        author.write([("create", path, post(f"{text} {number}"))])
        states.append(copy.copy(author))
    return states


def true_account(author: Author, home: str) -> Expected:
    """Return the account as the index should hold it."""
    assert author.rev is not None
    records = {path.encode(): raw for path, raw in author.records.items()}
    return Expected(author.did, author.rev, author.data, records, home)


@functools.cache
def bomb(size: int, wbits: int) -> bytes:
    """Return `size` zero bytes, compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    piece = bytes(1_000_000)
    packed = [packer.compress(piece) for _ in range(size // len(piece))]
    return b"".join([*packed, packer.flush()])


def forger_of(network: SimulatedNetwork, number: int) -> Author:
    """Return an author with the DID and key of an honest account."""
    member = network.population.members[number % len(network.population.members)]
    author = Author(9_500 + number)
    author.did = member.did
    author.key = member.key
    return author
