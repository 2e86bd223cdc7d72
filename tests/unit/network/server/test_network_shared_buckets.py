"""Rate limits over several processes, some of which are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from network.server.admission import GuardPolicy
from network.server.rate_limit import RateLimit
from network.server.request_guard import RequestGuard
from network.server.shared_buckets import SharedBuckets

HOUR = 3_600.0


def in_process(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; return its id."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def taken_in(count: int, limit: RateLimit, key: str) -> tuple[int, list[int]]:
    """Take from forked processes; return a pipe with a byte a point, and their ids."""
    reader, writer = os.pipe()

    def take() -> None:
        while not limit.try_take(key).wait:
            os.write(writer, b"x")

    pids = [in_process(take) for _ in range(count)]
    os.close(writer)
    return reader, pids


def read_all(pipe: int) -> int:
    found = 0
    while piece := os.read(pipe, 65_536):
        found += len(piece)
    os.close(pipe)
    return found


def test_processes_take_exactly_the_points_of_one_limit() -> None:
    limit = RateLimit(5_000, HOUR * 100, buckets=SharedBuckets().named("a"))
    pipe, pids = taken_in(4, limit, "client")
    assert read_all(pipe) == 5_000
    for pid in pids:
        os.waitpid(pid, 0)
    assert limit.look("client").remaining == 0
    assert limit.look("other").remaining == 5_000


def test_killed_processes_leave_neither_a_lock_nor_a_wrong_limit() -> None:
    # One set of slots: all processes want one lock all the time.
    shared = SharedBuckets(sets=1)
    limit = RateLimit(20_000, HOUR * 1_000, buckets=shared.named("a"))
    rng = random.Random(1)
    pipe, pids = taken_in(6, limit, "client")
    killed = pids[:4]
    for pid in killed:
        time.sleep(rng.uniform(0.005, 0.03))
        os.kill(pid, signal.SIGKILL)
    taken = read_all(pipe)
    for pid in pids:
        os.waitpid(pid, 0)
    # A killed process may have taken one point that it had no time to report.
    assert 20_000 - len(killed) <= taken <= 20_000
    assert limit.try_take("client").wait
    assert limit.take("other").remaining == 19_999


def test_full_set_drops_the_bucket_that_is_full_first() -> None:
    shared = SharedBuckets(sets=1)
    limit = RateLimit(10, HOUR, buckets=shared.named("a"))
    limit.take("busy", 10)
    for number in range(1_000):
        limit.take(str(number))
    assert limit.look("busy").remaining == 0
    assert limit.look("0").remaining == 10


def test_shared_limit_gives_the_quotas_of_one_process() -> None:
    now = [1_000.0]
    own = RateLimit(6, 60.0, clock=lambda: now[0])
    shared = SharedBuckets()
    common = RateLimit(6, 60.0, clock=lambda: now[0], buckets=shared.named("a"))
    rng = random.Random(2)
    for _ in range(500):
        key, points = rng.choice("ab"), rng.randrange(1, 5)
        if rng.random() < 0.2:
            own.charge(key, points)
            common.charge(key, points)
        assert own.try_take(key, points) == common.try_take(key, points)
        assert own.look(key) == common.look(key)
        now[0] += rng.choice((0.0, 0.5, 7.0))


def test_limits_of_one_key_are_apart() -> None:
    shared = SharedBuckets()
    hour = RateLimit(10, HOUR, buckets=shared.named("hour"))
    day = RateLimit(10, HOUR, buckets=shared.named("day"))
    hour.take("a", 10)
    assert day.take("a", 4).remaining == 6


def test_guards_with_common_buckets_refuse_at_the_number_of_one() -> None:
    shared = SharedBuckets()
    guards = [
        RequestGuard(GuardPolicy(rate=0.001, burst=30), shared=shared) for _ in range(3)
    ]
    scope = {"type": "http", "headers": [], "client": ("1.2.3.4", 1)}
    for number in range(30):
        guards[number % 3].admit(scope).close()
    for guard in guards:
        assert guard.shares.addresses.look("1.2.3.4").remaining == 0
