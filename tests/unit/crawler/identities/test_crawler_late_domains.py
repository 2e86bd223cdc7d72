"""Domains that never answer, in virtual time: honest hosts do not wait behind them,
however many hosts name them."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import Collection, Coroutine
from typing import Any

import pytest

from crawler.identities.lookups import Lookups
from crawler.live.rounds import LookedUp
from network.errors import DidNotFoundError, TimedOutError
from protocol.syntax.did import Did

LIMIT = 64
PER_HOST = 2
PATIENCE = 5.0
# As long as the client waits for one answer.
GIVEN_UP = 30.0
HONEST = 1_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever is due next."""

    def __init__(self) -> None:
        loop = self

        class Jumping(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                loop.now += timeout or 0.0
                return super().select(0)

        self.now = 0.0
        super().__init__(Jumping())

    def time(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


class Domains:
    """A domain answers after the seconds that its name says, or never."""

    def __init__(self) -> None:
        self.under_way: Counter[str] = Counter()
        self.most = 0
        self.answered_at: dict[str, float] = {}
        self.failed: Counter[str] = Counter()
        self.lookups = Lookups(
            self,  # type: ignore[arg-type]
            self.hear,
            limit=LIMIT,
            per_host=PER_HOST,
            patience=PATIENCE,
        )

    async def resolve_did(self, did: str, **_: Any) -> Any:
        wait = int(did.rpartition(".ms")[2]) / 1_000
        self.under_way[did] += 1
        self.most = max(self.most, self.under_way.total())
        assert self.under_way[did] == 1
        try:
            await asyncio.sleep(min(wait, GIVEN_UP))
        finally:
            self.under_way[did] -= 1
        if wait > GIVEN_UP:
            raise TimedOutError(did)
        raise DidNotFoundError(did)

    def hear(self, found: LookedUp) -> None:
        assert found.did not in self.answered_at, "answered twice"
        self.answered_at[found.did] = asyncio.get_running_loop().time()
        self.failed[found.did] += found.failed

    async def hear_all(self, dids: Collection[str]) -> None:
        while not set(dids) <= self.answered_at.keys():  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def ask(self, host: int, name: str, wait: float) -> str:
        did = f"did:web:{name}.h{host}.ms{wait * 1_000:.0f}"
        self.lookups.request(Did(did), False, host)
        return did


def turns_of(hosts: int) -> float:
    """How long it takes until each of so many had all its slots once, of the half that
    those have who are not late."""
    return PATIENCE * (hosts * PER_HOST / (LIMIT / 2) + 2)


async def honest_lags(domains: Domains, *, count: int, every: float) -> list[float]:
    """How long an honest host's newcomers wait, one after the other."""
    loop = asyncio.get_running_loop()
    asked: dict[str, float] = {}
    for n in range(count):
        asked[domains.ask(HONEST, f"honest{n}", 0.1)] = loop.time()
        await asyncio.sleep(every)
    await domains.hear_all(asked)
    return [domains.answered_at[did] - at for did, at in asked.items()]


@pytest.mark.parametrize("liars", [33, 100, 400])
def test_hosts_whose_domains_never_answer_hold_others_up_once(liars: int) -> None:
    async def work() -> None:
        domains = Domains()
        for host in range(liars):
            for n in range(200):
                domains.ask(host, f"pit{n}", 3_600.0)
        lags = await honest_lags(domains, count=400, every=0.5)
        # Until each of them had its slots for as long as our patience lasts.
        once = turns_of(liars)
        assert max(lags) <= once
        assert max(lags[int(2 * once) :]) <= 0.2
        assert domains.most <= LIMIT
        await domains.lookups.close()

    run(work())


def test_who_answers_now_and_then_keeps_a_turn_and_no_more() -> None:
    async def work() -> None:
        domains, draw = Domains(), random.Random(1)
        for host in range(100):
            for n in range(400):
                domains.ask(host, f"pit{n}", draw.choice([0.1, 3_600.0]))
        lags = await honest_lags(domains, count=400, every=0.5)
        assert max(lags) <= turns_of(100)
        assert sorted(lags)[len(lags) // 2] <= PATIENCE
        assert domains.most <= LIMIT
        await domains.lookups.close()

    run(work())


def test_a_slow_domain_is_heard_in_its_turn() -> None:
    async def work() -> None:
        domains = Domains()
        slow = domains.ask(HONEST, "slow", 20.0)
        for host in range(100):
            for n in range(20):
                domains.ask(host, f"pit{n}", 3_600.0)
        await domains.hear_all([slow])
        assert not domains.failed[slow]
        # Each of the others had one turn of the slots for those who are late.
        now = asyncio.get_running_loop().time()
        assert now <= GIVEN_UP * (100 / (LIMIT / 2) + 2) + 20.0
        # And whoever is quick again goes first again.
        quick = domains.ask(HONEST, "quick", 0.1)
        await domains.hear_all([quick])
        after = domains.ask(HONEST, "after", 0.1)
        at = asyncio.get_running_loop().time()
        await domains.hear_all([after])
        assert domains.answered_at[after] - at <= 0.2
        await domains.lookups.close()

    run(work())


@pytest.mark.parametrize("seed", range(5))
def test_each_is_answered_once_whatever_domains_do(seed: int) -> None:
    async def work() -> None:
        domains, draw = Domains(), random.Random(seed)
        asked = set()
        for n in range(300):
            host = draw.randrange(40)
            wait = draw.choice([0.1, 0.1, 4.9, 5.1, 20.0, 3_600.0])
            asked.add(domains.ask(host, f"a{n}", wait))
            await asyncio.sleep(draw.choice([0.0, 0.1, 3.0]))
        async with asyncio.timeout(300 * GIVEN_UP):
            await domains.hear_all(asked)
        assert {did for did, n in domains.failed.items() if n} == {
            did for did in asked if did.endswith(".ms3600000")
        }
        assert not domains.under_way.total()
        assert domains.most <= LIMIT
        await domains.lookups.close()

    run(work())
