"""Crawlers with several shards, and another number of them after each kill.

The oracle sees every frame that a killed router or shard, or the new assignment of
accounts, would lose, and two planted faults of the shard cursors.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import psutil
import psycopg
import pytest
from simulated_network import SimulatedNetwork
from simulation import Simulation, kill_backends
from simulations import Simulations

from service.runtime.embedded import EmbeddedPostgres

MakeRun = Callable[[int, int], Simulation]


@pytest.fixture
def make_run(own_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[MakeRun]:
    with Simulations(own_server, tmp_path) as simulations:

        def make(seed: int, members: int) -> Simulation:
            network = SimulatedNetwork(hosts=2, accounts=members, seed=seed)
            return simulations.open(f"shards_{seed}", network, healing=False)

        yield make


def shard_pids(run: Simulation) -> list[int]:
    """Return the shard processes, the children of the fork server."""
    warm = psutil.Process(run.crawler.parent_pid)
    servers = [
        child
        for child in warm.children()
        if child.pid != run.crawler.pid and "forkserver" in " ".join(child.cmdline())
    ]
    return [shard.pid for server in servers for shard in server.children()]


def wait_for_shards(run: Simulation, count: int) -> list[int]:
    """Wait until so many shards hold their lock."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        with contextlib.suppress(psycopg.OperationalError):
            with psycopg.connect(run.url) as conn:
                held = conn.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                    " AND objsubid = 2 AND granted"
                ).fetchone()
            if held == (count,):
                return shard_pids(run)
        time.sleep(0.02)
    raise AssertionError("the shards do not start")


def kill_and_compare(
    run: Simulation, kills: int, numbers: list[int], seed: int
) -> tuple[list[str], int, int]:
    """Kill routers and shards while frames come in, with changing shard numbers.

    Return (faults at the end, steps of progress, shards killed).
    """
    draw = random.Random(seed)
    run.begin_days()
    shards_killed = 0
    progress = [0]
    for kill in range(kills):
        shards = draw.choice(numbers)
        run.crawler.start(shards=shards)
        if draw.random() < 0.8:
            run.wait_for_progress(max(progress), 20.0)
        time.sleep(draw.uniform(0.0, 0.3))
        if shards > 1 and kill % 2:
            victim = draw.choice(wait_for_shards(run, shards))
            os.kill(victim, signal.SIGKILL)
            shards_killed += 1
            run.wait_for_progress(run.progress(), 20.0)
        elif kill % 6 == 4:
            kill_backends(run.url, draw)
            time.sleep(draw.uniform(0.0, 0.3))
        run.crawler.kill()
        progress.append(run.progress())
    run.end_days()
    run.crawler.start(shards=numbers[-1])
    faults = run.settle_unhealed(120)
    return faults, len(set(progress)), shards_killed


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_shard_kills_and_new_numbers_lose_nothing(make_run: MakeRun) -> None:
    run = make_run(1, 20)
    faults, steps, killed = kill_and_compare(run, 3, [2, 3], seed=4)
    assert faults == []
    assert steps >= 2
    assert killed >= 1
    with psycopg.connect(run.url) as conn:
        rows = conn.execute("SELECT DISTINCT shard FROM host_cursor").fetchall()
    assert {row[0] for row in rows} == {0, 1, 2}


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_many_shard_kills_lose_nothing(make_run: MakeRun) -> None:
    run = make_run(2, 100)
    faults, steps, killed = kill_and_compare(run, 100, [1, 2, 3, 5], seed=5)
    assert faults == []
    assert steps >= 50
    assert killed >= 20


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("planted", "numbers"), [("highest", [2]), ("as_they_are", [2, 1, 3])]
)
def test_misread_shard_cursors_are_detected(
    make_run: MakeRun, planted: str, numbers: list[int]
) -> None:
    run = make_run(3 + len(numbers), 12)
    population = run.network.population
    publisher = run.publish(chain(population.begin(), population.live(500)))
    for kill in range(6):
        before = run.progress()
        run.crawler.start(planted=planted, shards=numbers[kill % len(numbers)])
        run.wait_for_progress(before, 20.0)
        time.sleep(0.2)
        run.crawler.kill()
    run.hurry.set()
    publisher.join()
    run.crawler.start(planted=planted, shards=numbers[-1])
    faults = run.settle(60)
    run.stop()
    assert any("root" in fault or "rev" in fault for fault in faults), faults
