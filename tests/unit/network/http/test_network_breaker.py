"""The circuit breaker and shared lookups."""

from __future__ import annotations

import asyncio

import pytest

from network.errors import RateLimitedError
from network.http.breaker import Breaker
from network.http.single_flight import SingleFlight


def test_breaker_counts_failures_in_a_row() -> None:
    now = [0.0]
    breaker = Breaker(3, 10.0, lambda: now[0])
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.may_call()
    for _ in range(3):
        assert breaker.may_call()
        breaker.failed()
    assert not breaker.may_call()
    now[0] = 11.0
    assert breaker.may_call()
    assert not breaker.may_call()  # one probe at a time
    breaker.succeeded()
    assert breaker.may_call()
    assert breaker.may_call()


async def test_single_flight_survives_a_cancelled_caller() -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    calls = 0

    async def slow() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return 7

    first = asyncio.create_task(flight.run("a", slow))
    second = asyncio.create_task(flight.run("a", slow))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 7
    assert calls == 1
    # Work without callers is cancelled, and started again for the next one.
    given_up = asyncio.create_task(flight.run("a", slow))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await flight.run("a", slow) == 7
    assert calls == 3

    async def broken() -> int:
        raise RateLimitedError("no", 1.0)

    for _ in range(2):
        with pytest.raises(RateLimitedError):
            await flight.run("a", broken)
    assert await flight.run("a", slow) == 7
