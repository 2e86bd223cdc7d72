"""Timestamp identifiers and the clock that makes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol.errors import InvalidSyntaxError
from protocol.syntax import (
    Tid,
    TidClock,
    is_tid,
    parse_tid,
    tid_from_int,
    tid_time_us,
    tid_to_int,
)

MAX_TIME_US = 2**53 - 1


def test_tid_examples() -> None:
    assert tid_to_int(Tid("2222222222222")) == 0
    assert tid_to_int(Tid("3jzfcijpj2z2a")) == 1688137381887007 << 10 | 6
    assert tid_from_int(1688137381887007 << 10 | 6) == "3jzfcijpj2z2a"
    assert tid_time_us(Tid("3jzfcijpj2z2a")) == 1688137381887007
    assert tid_from_int(2**63 - 1) == "bzzzzzzzzzzzz"


@pytest.mark.parametrize("number", [-1, 2**63, 2**64])
def test_tid_from_int_refuses_numbers_beyond_63_bits(number: int) -> None:
    with pytest.raises(InvalidSyntaxError):
        tid_from_int(number)


def test_clock_rises_when_time_stands_still_or_runs_back() -> None:
    times = iter([1_000, 1_000, 500, 2_000, 0])
    clock = TidClock(7, lambda: next(times))
    made = [clock.next() for _ in range(5)]
    assert [tid_time_us(tid) for tid in made] == [1_000, 1_001, 1_002, 2_000, 2_001]
    assert made == sorted(set(made))
    assert all(is_tid(tid) and tid_to_int(tid) & 1023 == 7 for tid in made)


def test_clock_exceeds_an_earlier_tid() -> None:
    clock = TidClock(0, lambda: 1_000)
    after = tid_from_int(5_000 << 10 | 1023)
    assert tid_time_us(clock.next(after)) == 5_001
    assert tid_time_us(clock.next()) == 5_002
    assert tid_time_us(clock.next(tid_from_int(10 << 10))) == 5_003


def test_clock_in_many_threads_repeats_no_tid() -> None:
    clock = TidClock(1, lambda: 1_000)
    with ThreadPoolExecutor(8) as pool:
        runs = pool.map(lambda _: [clock.next() for _ in range(500)], range(8))
        made = [tid for run in runs for tid in run]
    assert len(set(made)) == 4_000


def test_clock_refuses_times_that_do_not_fit() -> None:
    with pytest.raises(ValueError):
        TidClock(1024, lambda: 0)
    with pytest.raises(InvalidSyntaxError):
        TidClock(0, lambda: MAX_TIME_US + 1).next()
    last = TidClock(0, lambda: MAX_TIME_US).next()
    with pytest.raises(InvalidSyntaxError):
        TidClock(0, lambda: 0).next(last)


def test_parse_tid() -> None:
    assert parse_tid("3jzfcijpj2z2a") == "3jzfcijpj2z2a"
    with pytest.raises(InvalidSyntaxError):
        parse_tid("kjzfcijpj2z2a")
