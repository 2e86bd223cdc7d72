from __future__ import annotations

import time

import pytest

from network.errors import XrpcError
from network.server.rate_limit import RateLimit, take_from_all


def test_rate_limit_refuses_with_the_headers_of_the_reference() -> None:
    now = [0.0]
    limit = RateLimit(6, 60.0, clock=lambda: now[0])
    quota = limit.take("a", 4)
    assert quota.headers()["RateLimit-Remaining"] == "2"
    with pytest.raises(XrpcError) as caught:
        limit.take("a", 3)
    error = caught.value
    assert (error.name, error.status) == ("RateLimitExceeded", 429)
    headers = error.headers
    assert headers["RateLimit-Limit"] == "6"
    assert headers["RateLimit-Policy"] == "6;w=60"
    assert headers["Retry-After"] == "10"
    assert 0 < int(headers["RateLimit-Reset"]) - time.time() < 12
    limit.take("b", 6)
    now[0] = 10.0
    limit.take("a", 3)


def test_rate_limit_drops_the_oldest_keys() -> None:
    limit = RateLimit(5, 3_600.0, max_keys=10)
    for number in range(1_000):
        limit.take(str(number))
    left = [limit.look(str(number)).remaining for number in range(990, 1_000)]
    assert left == [4] * 10
    assert limit.look("0").remaining == 5


def test_take_from_all_takes_nothing_when_one_limit_refuses() -> None:
    hour, day = RateLimit(10, 3_600.0), RateLimit(12, 86_400.0)
    assert take_from_all((hour, day), "a", 8).remaining == 2
    with pytest.raises(XrpcError):
        take_from_all((hour, day), "a", 3)
    assert hour.look("a").remaining == 2
    assert day.look("a").remaining == 4


def test_charge_stops_at_zero() -> None:
    now = [0.0]
    limit = RateLimit(10, 10.0, clock=lambda: now[0])
    limit.charge("a", 100)
    assert limit.look("a").remaining == 0
    now[0] = 1.0
    limit.take("a")
