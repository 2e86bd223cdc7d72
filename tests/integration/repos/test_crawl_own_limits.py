"""Limits that the operator set for one host."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from crawler.identities.network_clients import clients_opener
from crawler.settings import CrawlSettings
from storage.hosts import host_rows
from storage.hosts.host_budget import set_limit
from storage.postgres.pool import Pool


def test_requests_to_a_host_keep_its_configured_rate(pool: Pool) -> None:
    with pool.connection() as conn:
        for name in ("a.example.com", "b.example.com"):
            host_rows.put_host(conn, name, f"https://{name}", source="configured")
        slow = host_rows.find_hosts(conn, ["a.example.com"])["a.example.com"]
        set_limit(conn, slow.id, "requests_per_s", 0.5)
    open_clients = clients_opener(pool, CrawlSettings())

    async def waits() -> dict[str, float]:
        async with open_clients() as clients:
            budgets = clients.fetcher.budgets
            for _ in range(2):
                for name in ("a.example.com:443", "b.example.com:443"):
                    budgets._host(name).bucket.take()
            return {
                name: budgets._host(f"{name}.example.com:443").bucket.wait_needed()
                for name in "ab"
            }

    found = asyncio.run(waits())
    assert found["a"] > 1.0
    assert found["b"] == 0.0


def test_tasks_share_the_directory_rate(pool: Pool) -> None:
    open_clients = clients_opener(pool, CrawlSettings(plc_rate=2.0))
    directory = "plc.directory:443"

    async def spend(times: int) -> float:
        async with open_clients() as clients:
            bucket = clients.fetcher.budgets._host(directory).bucket
            for _ in range(times):
                bucket.reserve(60.0)
            return bucket.wait_needed()

    def task(_: int) -> float:
        return asyncio.run(spend(10))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(task, range(4)))
    # Two at once, and two a second.
    assert asyncio.run(spend(0)) > 15.0
