"""Slots of identity jobs: servers that never answer delay only their own jobs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from crawler.database import Database
from crawler.identities import identity_refresh
from crawler.identities.identity_refresh import IdentityRefresh
from crawler.settings import CrawlSettings
from network.errors import DidNotFoundError
from protocol.syntax.did import Did
from storage.jobs import claim_jobs, put_jobs
from storage.postgres.pool import Pool

JOB = "identity"


class Outside:
    """A resolver and sink in one; `slow` accounts never get a document."""

    def __init__(self, slow: Iterable[str] = (), seconds: float = 0.0) -> None:
        self.slow = frozenset(slow)
        self.seconds = seconds
        self.under_way: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.resolver = self

    def refresh_in(self, did: str, **_: Any) -> float:
        return 0.0

    async def resolve_did(self, did: str, **_: Any) -> Any:
        self.under_way[did] += 1
        self.most_at_once[did] = max(self.most_at_once[did], self.under_way[did])
        try:
            await asyncio.sleep(3_600 if did in self.slow else self.seconds)
        finally:
            self.under_way[did] -= 1
        raise DidNotFoundError(did)

    def set_handle(self, did: Did, handle: None) -> None:
        self.done[did] += 1


def put_accounts(pool: Pool, host: int, count: int, *, due_s: float = 0.0) -> list[str]:
    """Add accounts of a host whose documents are due since `due_s` seconds."""
    dids = [f"did:plc:h{host}a{n}" for n in range(count)]
    with pool.connection() as conn:
        conn.execute(
            """
            WITH made AS (
                INSERT INTO actor (did) SELECT unnest(%s::text[]) RETURNING id
            )
            INSERT INTO repo (actor, host, state) SELECT id, %s, 'synchronized'
            FROM made
            """,
            (dids, host),
        )
        put_jobs(conn, JOB, dids, wait=-due_s)
    return dids


def worker(pool: Pool, outside: Any) -> IdentityRefresh:
    return IdentityRefresh(CrawlSettings(), Database(pool), outside, outside)


def claim(pool: Pool, limit: int = 1_000) -> Sequence[Any]:
    with pool.connection() as conn:
        return claim_jobs(conn, JOB, limit=limit, lease_s=60)


async def wait_for(outside: Outside, dids: Iterable[str]) -> None:
    wanted = set(dids)
    async with asyncio.timeout(10):
        while not wanted <= outside.done.keys():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def kill(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("hosts", [1, 25])
def test_silent_servers_delay_only_their_jobs(pool: Pool, hosts: int) -> None:
    slow = [
        did
        for host in range(1, hosts + 1)
        for did in put_accounts(pool, host, 500 // hosts, due_s=60.0)
    ]
    honest = put_accounts(pool, 99, 50)
    outside = Outside(slow)

    async def work() -> None:
        running = asyncio.create_task(worker(pool, outside).run(asyncio.Event()))
        await wait_for(outside, honest)
        # New jobs are not delayed either.
        late = await asyncio.to_thread(put_accounts, pool, 98, 50)
        await wait_for(outside, late)
        await kill(running)

    asyncio.run(work())
    assert set(outside.most_at_once) - outside.done.keys() <= set(slow)
    by_host = Counter(did.split("a")[0] for did in outside.most_at_once if did in slow)
    assert set(by_host.values()) == {4}


def test_slow_hosts_get_half(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_refresh, "_AT_ONCE", 8)
    monkeypatch.setattr(identity_refresh, "_PATIENCE", 0.1)
    late = {did for host in range(1, 5) for did in put_accounts(pool, host, 15)}
    outside, beside = Outside(), list[int]()

    async def answer(did: str, **_: Any) -> Any:
        if did in late:
            outside.under_way["late"] += 1
            await asyncio.sleep(0.3)
            outside.under_way["late"] -= 1
        else:
            beside.append(outside.under_way["late"])
        raise DidNotFoundError(did)

    outside.resolve_did = answer  # type: ignore[method-assign]

    async def work() -> None:
        running = asyncio.create_task(worker(pool, outside).run(asyncio.Event()))
        while len({did.split("a")[0] for did in outside.done}) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await wait_for(outside, await asyncio.to_thread(put_accounts, pool, 99, 30))
        await kill(running)

    asyncio.run(work())
    assert len(beside) == 30
    assert 0 < max(beside) <= 4


def test_round_leaves_waiting_jobs_to_the_next(pool: Pool) -> None:
    dids = put_accounts(pool, 1, 40)
    with pool.connection() as conn:
        put_jobs(conn, JOB, dids[:20], doubt=True)
    outside = Outside(seconds=0.4)
    assert asyncio.run(worker(pool, outside).run_once(seconds=0.6)) == 8
    left = claim(pool)
    assert len(left) == 32
    assert {job.key for job in left} == set(dids) - outside.done.keys()
    assert {job.key for job in left if job.doubted} == set(dids[:20]) & {
        job.key for job in left
    }
    assert all(job.tries == 0 for job in left)


def test_waiting_job_keeps_its_lease(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_refresh, "_LEASE", 2.5)
    monkeypatch.setattr(identity_refresh, "_RENEWED_EVERY", 0.3)
    dids = put_accounts(pool, 1, 20)

    async def work() -> None:
        running = asyncio.create_task(worker(pool, Outside(dids)).run(asyncio.Event()))
        await asyncio.sleep(3.5)
        assert await asyncio.to_thread(claim, pool) == []
        # It crashes without releasing anything.
        await kill(running)
        assert await asyncio.to_thread(claim, pool) == []
        await asyncio.sleep(2.6)
        assert len(await asyncio.to_thread(claim, pool)) == 20

    asyncio.run(work())


@pytest.mark.parametrize("seed", range(3))
def test_concurrent_workers_do_each_job_once(pool: Pool, seed: int) -> None:
    draw = random.Random(seed)
    dids = [
        did
        for host in range(1, 9)
        for did in put_accounts(pool, host, draw.choice([1, 5, 60]), due_s=host % 3)
    ]
    outside = Outside(seconds=0.003)

    async def work() -> list[int]:
        return await asyncio.gather(
            *(worker(pool, outside).run_once(seconds=30) for _ in range(2))
        )

    assert sum(asyncio.run(work())) == len(dids)
    assert outside.done == Counter(dids)
    assert set(outside.most_at_once.values()) == {1}
    assert claim(pool) == []


def test_write_error_ends_the_round(pool: Pool) -> None:
    put_accounts(pool, 1, 20)
    outside = Outside()

    def fail(*_: Any) -> None:
        raise ValueError("no such thing")

    outside.set_handle = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(ValueError, match="no such thing"):
        asyncio.run(worker(pool, outside).run(asyncio.Event()))


def test_jobs_of_slow_hosts_block_no_refreshes(pool: Pool) -> None:
    put_accounts(pool, 1, 300, due_s=1_200.0)
    put_accounts(pool, 2, 0)
    with pool.connection() as conn:
        conn.execute(
            "WITH made AS (INSERT INTO actor (did) VALUES ('did:plc:old') RETURNING id)"
            " INSERT INTO repo (actor, host, state, identity_at)"
            " SELECT id, 2, 'synchronized', now() - interval '2 days' FROM made"
        )
    queued = asyncio.run(worker(pool, Outside()).queue_stale(200))
    assert queued == 1
