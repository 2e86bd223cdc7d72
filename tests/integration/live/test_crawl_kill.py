"""A crawler killed at any moment loses nothing and applies nothing twice.

A child process reads simulated streams into Postgres; it and the database backends are
killed again and again. No repo is ever fetched, so a lost frame stays lost, and the
oracle sees it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from simulated_network import SimulatedNetwork
from simulation import Simulation, kill_backends
from simulations import Simulations

from service.runtime.embedded import EmbeddedPostgres


@pytest.fixture
def make_run(
    own_server: EmbeddedPostgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[int, int], Simulation]]:
    with Simulations(own_server, tmp_path) as simulations:

        def make(seed: int, members: int) -> Simulation:
            name = f"kill_{request.node.name[:20].lower()}_{seed}"
            network = SimulatedNetwork(hosts=2, accounts=members, seed=seed)
            return simulations.open(name, network, healing=False)

        yield make


def kill_and_compare(
    run: Simulation, kills: int, seed: int
) -> tuple[list[str], int, int]:
    """Kill while frames come in; return (faults, steps of progress, backend kills)."""
    draw = random.Random(seed)
    run.begin_days()
    database_kills = 0
    progress = [0]
    for kill in range(kills):
        run.crawler.start()
        if draw.random() < 0.8:
            run.wait_for_progress(max(progress), 10.0)
        time.sleep(draw.uniform(0.0, 0.2))
        if kill % 6 == 5 and kill_backends(run.url, draw):
            database_kills += 1
            time.sleep(draw.uniform(0.0, 0.3))
        run.crawler.kill()
        progress.append(run.progress())
    run.end_days()
    run.crawler.start()
    faults = run.settle_unhealed(120)
    return faults, len(set(progress)), database_kills


@pytest.mark.slow
def test_kills_lose_and_repeat_nothing(
    make_run: Callable[[int, int], Simulation],
) -> None:
    run = make_run(1, 20)
    faults, steps, database_kills = kill_and_compare(run, 6, seed=20)
    assert faults == []
    assert steps >= 3
    assert database_kills >= 1


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_two_hundred_kills_lose_and_repeat_nothing(
    make_run: Callable[[int, int], Simulation],
) -> None:
    run = make_run(3, 100)
    faults, steps, database_kills = kill_and_compare(run, 200, seed=21)
    assert faults == []
    assert steps >= 100
    assert database_kills >= 20


@pytest.mark.slow
def test_cursor_saved_first_is_detected(
    make_run: Callable[[int, int], Simulation],
) -> None:
    draw = random.Random(3)
    run = make_run(2, 10)
    population = run.network.population
    publisher = run.publish(chain(population.begin(), population.live(400)))
    for _ in range(3):
        before = run.progress()
        run.crawler.start(planted="cursor_first")
        run.wait_for_progress(before, 10.0)
        time.sleep(draw.uniform(0.0, 0.1))
        run.crawler.kill()
    run.hurry.set()
    publisher.join()
    run.crawler.start(planted="cursor_first")
    faults = run.settle(60)
    run.stop()
    assert any("root" in fault or "rev" in fault for fault in faults), faults
