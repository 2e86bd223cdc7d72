from __future__ import annotations

import random

import pytest

from crawler.backoff import TokenBucket, full_jitter, parse_retry_after


def test_jitter_grows_to_the_cap_and_never_spins() -> None:
    highest = [full_jitter(n, draw=lambda: 1.0) for n in range(1, 60)]
    assert highest[:4] == [1.0, 2.0, 4.0, 8.0]
    assert highest[-1] == 300.0
    assert all(full_jitter(n, draw=lambda: 0.0) >= 0.1 for n in range(1, 60))


def test_five_hundred_dead_hosts_stay_under_ten_dials_a_second() -> None:
    draw = random.Random(1).random
    dials = [0] * 3_600
    for _ in range(500):
        at, tries = draw(), 0
        while at < 3_600:
            dials[int(at)] += 1
            tries += 1
            at += full_jitter(tries, draw=draw)
    # The first seconds hold every host's first tries; then the load is flat.
    assert max(dials[600:]) <= 10


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("0", 0.0),
        ("-1", 0.0),
        ("5", 5.0),
        ("1.5", 1.5),
        ("9e9", 3_600.0),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("1" * 500, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=10.0) == seconds


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=5.0)
    assert sum(bucket.take(100.0) for _ in range(10)) == 5
    assert bucket.wait(100.0) == pytest.approx(0.5)
    assert sum(bucket.take(103.0) for _ in range(20)) == 5
    taken = sum(bucket.take(103.0 + n / 100) for n in range(1_000))
    assert 19 <= taken <= 21
