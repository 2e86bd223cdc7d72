"""Whose look-up is next: hosts in turn, and none in the way of another."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from crawler.identities.lookups import Lookups
from crawler.live.rounds import LookedUp
from network.errors import DidNotFoundError
from protocol.syntax.did import Did


class Resolver:
    """Answers when told to; a did:web below `.pit` never."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked: list[tuple[str, bool]] = []
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def resolve_did(self, did: str, *, refresh: bool, **_: Any) -> Any:
        method = did.split(":")[1]
        self.asked.append((did, refresh))
        self.under_way[method] += 1
        self.most[method] = max(self.most[method], self.under_way[method])
        try:
            await asyncio.sleep(3_600 if did.endswith(".pit") else self.seconds)
        finally:
            self.under_way[method] -= 1
        raise DidNotFoundError(did)


class Asker:
    def __init__(self, seconds: float = 0.0, limit: int = 8, per_host: int = 2) -> None:
        self.resolver = Resolver(seconds)
        self.answers: list[str] = []
        self.lookups = Lookups(
            self.resolver,  # type: ignore[arg-type]
            self._hear,
            limit=limit,
            per_host=per_host,
            patience=5.0,
        )

    def _hear(self, found: LookedUp) -> None:
        self.answers.append(found.did)

    def ask(self, did: str, host: int, *, refresh: bool = False) -> None:
        self.lookups.request(Did(did), refresh, host)

    async def hear(self, did: str) -> None:
        async with asyncio.timeout(5):
            while did not in self.answers:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


def plc(number: int) -> str:
    return f"did:plc:{number}"


@pytest.mark.anyio
async def test_who_waits_for_domains_that_never_answer_waits_alone() -> None:
    asker = Asker()
    for host in range(3):
        for n in range(200):
            asker.ask(f"did:web:a{n}.h{host}.pit", host)
    asker.ask(plc(1), 9)
    asker.ask(plc(2), 0)
    asker.ask("did:web:honest", 9)
    await asker.hear(plc(1))
    await asker.hear(plc(2))
    await asker.hear("did:web:honest")
    assert asker.resolver.under_way == {"web": 6, "plc": 0}
    await asker.lookups.close()


@pytest.mark.anyio
async def test_at_the_directory_hosts_take_turns() -> None:
    asker = Asker(seconds=0.005, limit=2)
    for n in range(100):
        asker.ask(plc(n), 1)
    asker.ask(plc(1_000), 2)
    await asker.hear(plc(1_000))
    assert len(asker.answers) < 10
    assert asker.resolver.most["plc"] == 2
    await asker.lookups.close()


@pytest.mark.anyio
async def test_who_asked_first_does_not_keep_an_account_back() -> None:
    asker = Asker()
    asker.ask("did:web:a.pit", 1)
    asker.ask("did:web:b.pit", 1)
    asker.ask("did:web:honest", 1)
    await asyncio.sleep(0.02)
    assert asker.answers == []
    asker.ask("did:web:honest", 2, refresh=True)
    await asker.hear("did:web:honest")
    assert asker.resolver.asked[2:] == [("did:web:honest", True)]
    await asker.lookups.close()


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(5))
async def test_each_account_is_answered_once_however_many_ask(seed: int) -> None:
    draw = random.Random(seed)
    asker = Asker(seconds=0.002, limit=4)
    wanted = [plc(n) for n in range(30)] + [f"did:web:w{n}" for n in range(30)]
    for did in wanted:
        for host in draw.sample(range(10), draw.randrange(1, 5)):
            asker.ask(did, host)
    for did in wanted:
        await asker.hear(did)
    await asyncio.sleep(0.02)
    assert sorted(asker.answers) == sorted(wanted)
    assert max(asker.resolver.most.values()) <= 4
    # And anew, once it was answered.
    asker.answers.clear()
    asker.ask(plc(3), 1)
    await asker.hear(plc(3))
    await asker.lookups.close()
