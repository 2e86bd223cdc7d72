"""Thousands of quiet hosts: the requests and the memory of a round of polls.

All hosts are one server, told apart by loopback addresses.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from contextlib import ExitStack

import psutil
import pytest
from crawl_fakes import FakeResolver, FakeSink, fake_clients
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.settings import CrawlSettings
from crawler.tasks import CrawlTasks
from network.server.listener import serving_in_thread
from storage.hosts import host_rows
from storage.postgres.pool import Pool

MIB = 1024 * 1024


class Crowd:
    """Serves listRepos for every host, and counts requests by host."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self.entry = {
            "did": "did:plc:" + "a" * 24,
            "head": "bafy",
            "rev": "3kaaaaaaaaa22",
            "active": True,
        }

    def app(self) -> Starlette:
        path = "/xrpc/com.atproto.sync.listRepos"
        return Starlette(routes=[Route(path, self.list_repos)])

    async def list_repos(self, request: Request) -> Response:
        self.asked[request.headers["host"]] += 1
        return JSONResponse({"repos": [self.entry]})


def poll_round(tasks: CrawlTasks, limit: int) -> int:
    """Run polls until none is due; return the number of hosts."""
    asked = 0
    while (found := tasks.poll_quiet_hosts(limit)).get("hosts", 0):
        asked += found["done"]
    return asked


def make_hosts(pool: Pool, port: int, count: int) -> None:
    with pool.connection() as conn:
        conn.execute(
            """
            INSERT INTO host (hostname, url, source, state, mode)
            SELECT h, 'http://' || h, 'plc', 'polling', 'poll'
            FROM (SELECT format('h%%s.localhost:%%s', n, %s::int) AS h
                  FROM generate_series(1, %s) AS n) AS names
            """,
            (port, count),
        )


def memory() -> float:
    gc.collect()
    return psutil.Process(os.getpid()).memory_info().rss / MIB


def measure(pool: Pool, count: int, more: int) -> dict[str, float]:
    """Return a round of polls over `count` hosts, and `more` rounds; what they cost."""
    crowd = Crowd()
    settings = CrawlSettings(dev=True, listing_settle=0.0)
    with ExitStack() as stack:
        url = stack.enter_context(serving_in_thread(crowd.app()))
        make_hosts(pool, int(url.rsplit(":", 1)[1]), count)
        tasks = CrawlTasks(settings, pool, FakeSink(), fake_clients(FakeResolver()))
        began, before = time.monotonic(), memory()
        first = poll_round(tasks, 400)
        after_first, seconds = memory(), time.monotonic() - began
        requests_first = crowd.asked.total()
        # Nothing is due again: a doubled message costs no request.
        assert poll_round(tasks, 400) == 0
        assert crowd.asked.total() == requests_first
        intervals = [settings.poll_interval]
        for _ in range(more):
            with pool.connection() as conn:
                conn.execute("UPDATE host SET listed_at = now() - interval '1 day'")
            assert poll_round(tasks, 400) == count
            with pool.connection() as conn:
                row = conn.execute("SELECT min(poll_every), max(poll_every) FROM host")
                least, most = row.fetchone() or (0, 0)
            assert least == most
            intervals.append(most)
    assert intervals == [900.0, 1_800.0, 3_600.0, 3_600.0][: more + 1]
    return {
        "hosts": count,
        "polled": first,
        "requests_a_round": requests_first,
        "most_of_one_host": max(crowd.asked.values()) / (more + 1),
        "hosts_asked": len(crowd.asked),
        "requests_an_hour": count * 3_600 / settings.poll_longest,
        "seconds_a_round": round(seconds, 1),
        "mib_before": round(before),
        "mib_after_one_round": round(after_first),
        "mib_at_the_end": round(memory()),
    }


def test_poll_round_costs_one_request_a_host(pool: Pool) -> None:
    cost = measure(pool, 60, 3)
    assert cost["polled"] == cost["hosts_asked"] == cost["requests_a_round"] == 60
    assert cost["most_of_one_host"] == 1


@pytest.mark.long
@pytest.mark.timeout(900)
def test_poll_round_of_two_thousand_hosts_has_bounded_memory(pool: Pool) -> None:
    cost = measure(pool, 2_000, 1)
    print(cost)
    assert cost["polled"] == cost["hosts_asked"] == cost["requests_a_round"] == 2_000
    assert cost["most_of_one_host"] == 1
    # One round more leaves no more than a few MiB: nothing is kept by the round.
    assert cost["mib_at_the_end"] - cost["mib_after_one_round"] < 40
    assert cost["mib_after_one_round"] - cost["mib_before"] < 120


def test_dead_host_is_polled_less_and_less_often(pool: Pool) -> None:
    settings = CrawlSettings(dev=True, listing_settle=0.0, offline_after=3)
    tasks = CrawlTasks(settings, pool, FakeSink(), fake_clients(FakeResolver()))
    make_hosts(pool, 1, 1)
    waits = []
    for _ in range(4):
        assert tasks.poll_quiet_hosts()["failed"] == 1
        assert tasks.poll_quiet_hosts() == {"hosts": 0}
        with pool.connection() as conn:
            row = conn.execute(
                "SELECT state, extract(epoch FROM next_try - now())::float8 FROM host"
            ).fetchone()
            assert row is not None
            waits.append((row[0], row[1]))
            conn.execute("UPDATE host SET next_try = now()")
    assert [state for state, _ in waits] == ["polling"] * 2 + [
        host_rows.HOST_OFFLINE
    ] * 2
    assert all(wait > 290 for _, wait in waits)
    assert waits[-1][1] > 86_000
    # It comes back as it was: polled, not streamed.
    crowd = Crowd()
    with serving_in_thread(crowd.app()) as url, pool.connection() as conn:
        conn.execute("UPDATE host SET url = %s", (url,))
        conn.commit()
        assert tasks.poll_quiet_hosts()["done"] == 1
        assert host_rows.load_hosts(conn).popitem()[1].state == host_rows.HOST_POLLING
