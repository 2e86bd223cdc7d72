from __future__ import annotations

import asyncio
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.errors import RateLimitedError
from network.http.budget import HostBudgets, TokenBucket, parse_retry_after
from network.http.policy import HostLimits, Policy


class VirtualTime:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_bucket_allows_its_burst_and_then_its_rate() -> None:
    time = VirtualTime()
    bucket = TokenBucket(rate=2.0, burst=3, clock=time)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    time.now += 0.5
    assert bucket.take()
    assert not bucket.take()
    time.now += 100
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_reservations_stop_at_the_longest_wait() -> None:
    time = VirtualTime()
    bucket = TokenBucket(rate=1.0, burst=1, clock=time)
    assert [bucket.reserve(2.0) for _ in range(4)] == [0.0, 1.0, 2.0, None]
    assert bucket.wait_needed() == 3.0


@given(st.lists(st.floats(0, 10), max_size=60))
def test_bucket_never_exceeds_burst_plus_rate(pauses: list[float]) -> None:
    time = VirtualTime()
    start = time.now
    bucket = TokenBucket(rate=1.5, burst=4, clock=time)
    taken = 0
    for pause in pauses:
        taken += bucket.take()
        time.now += pause
    assert taken <= 4 + 1.5 * (time.now - start) + 1e-6


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 7 "}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-1"}, 5.0),
        ({"Retry-After": "9e9"}, 5.0),
        ({"Retry-After": "9000000000"}, 3600.0),
        ({"Retry-After": "9" * 4_000}, 3600.0),
        ({"Retry-After": "７"}, 5.0),
        ({"Retry-After": "soon"}, 5.0),
        ({"Retry-After": ""}, 5.0),
        ({"Retry-After": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"Retry-After": formatdate(NOW - 90, usegmt=True)}, 5.0),
        ({"Retry-After": formatdate(NOW + 9e6, usegmt=True)}, 3600.0),
        ({"RateLimit-Reset": str(int(NOW) + 30)}, 30.0),
        ({"RateLimit-Reset": "30"}, 5.0),
        ({}, 5.0),
    ],
)
def test_retry_after_is_parsed(headers: dict[str, str], seconds: float) -> None:
    assert parse_retry_after(headers, now=NOW, default=5.0, cap=3600.0) == seconds


async def test_concurrency_is_bounded_per_host() -> None:
    limits = HostLimits(rate=1e6, burst=1_000, concurrency=3)
    budgets = HostBudgets(Policy(limits=limits))
    running = {"a:443": 0, "b:443": 0}
    most = dict(running)

    async def call(host: str) -> None:
        async with budgets.slot(host):
            running[host] += 1
            most[host] = max(most[host], running[host])
            await asyncio.sleep(0.001)
            running[host] -= 1

    await asyncio.gather(*(call(host) for host in running for _ in range(20)))
    assert most == {"a:443": 3, "b:443": 3}


async def test_pause_blocks_a_host_until_it_ends() -> None:
    time = VirtualTime()
    limits = HostLimits(max_wait=1.0)
    budgets = HostBudgets(Policy(limits=limits), time)
    budgets.pause("a:443", 60.0)
    with pytest.raises(RateLimitedError) as caught:
        async with budgets.slot("a:443"):
            pass
    assert caught.value.retry_after == 60.0
    assert budgets.paused_for("a:443") == 60.0
    async with budgets.slot("b:443"):
        pass
    time.now += 61
    async with budgets.slot("a:443"):
        pass


async def test_spent_budget_raises_with_the_wait() -> None:
    time = VirtualTime()
    limits = HostLimits(rate=0.5, burst=1, max_wait=1.0)
    budgets = HostBudgets(Policy(limits=limits), time)
    async with budgets.slot("a:443"):
        pass
    with pytest.raises(RateLimitedError) as caught:
        async with budgets.slot("a:443"):
            pass
    assert caught.value.retry_after == 2.0


async def test_busy_host_fails_after_the_longest_wait() -> None:
    limits = HostLimits(concurrency=1, max_wait=0.01)
    budgets = HostBudgets(Policy(limits=limits))
    async with budgets.slot("a:443"):
        with pytest.raises(RateLimitedError):
            async with budgets.slot("a:443"):
                pass
    async with budgets.slot("a:443"):
        pass


async def test_hosts_in_use_are_not_evicted() -> None:
    budgets = HostBudgets(Policy(max_hosts=10))
    async with budgets.slot("busy:443"):
        budgets.pause("busy:443", 5.0)
        for number in range(100):
            async with budgets.slot(f"h{number}:443"):
                pass
        assert len(budgets) == 10
        assert budgets.paused_for("busy:443") > 4
    for number in range(100):
        async with budgets.slot(f"h{number}:443"):
            pass
    assert budgets.paused_for("busy:443") == 0


async def test_one_host_can_have_its_own_limits() -> None:
    budgets = HostBudgets(Policy(limits=HostLimits(rate=0.001, burst=1)))
    budgets.set_limits("a:443", HostLimits(rate=1e6, burst=100))
    for _ in range(50):
        async with budgets.slot("a:443"):
            pass
