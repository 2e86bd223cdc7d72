"""Crawlers that die at each crash point, with fetches and listings running.

Frames get lost, repos are fetched while their accounts write, listings are compared,
search is fed. At the end the oracle compares rows, counts, cursors and search.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import psutil
import pytest
from simulated_network import Faults, SimulatedNetwork
from simulation import Simulation
from simulations import Simulations

from service.runtime.embedded import EmbeddedPostgres
from storage.postgres.crashpoint import Crashpoint

ROOT = Path(__file__).parents[2]
# Those of a PDS are in tests/integration/pds/test_pds_kills.py.
POINTS = tuple(point for point in Crashpoint if not point.startswith("pds."))
SETTINGS = {
    "refresh_interval": 0.5,
    "listing_settle": 0.0,
    "listing_interval": 0.3,
    "backfills_at_once": 4,
}


@pytest.fixture
def make_run(
    own_server: EmbeddedPostgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[int, int], Simulation]]:
    with Simulations(own_server, tmp_path) as simulations:

        def make(seed: int, accounts: int) -> Simulation:
            name = f"crash_{request.node.name[5:25].lower()}_{seed}"
            network = SimulatedNetwork(
                hosts=3, accounts=accounts, seed=seed, faults=Faults(lost=0.04)
            )
            for host in network.hosts.values():
                # Accounts write while their repo is being fetched.
                host.before_repo = lambda _: time.sleep(0.3)
            return simulations.open(name, network, search=True, settings=SETTINGS)

        yield make


def crash_and_compare(
    run: Simulation, points: Sequence[Crashpoint], seed: int
) -> tuple[list[str], Counter[Crashpoint]]:
    """Die at each of these points in turn; return (faults, deaths by point)."""
    draw = random.Random(seed)
    population = run.network.population
    publisher = run.publish(
        chain(population.begin(), _until(run, lively=0.05)), rate=80
    )
    died: Counter[Crashpoint] = Counter()
    for point in points:
        # Repos are imported in groups or alone, as the point needs it.
        alone = 0 if point.startswith("checkout") else 2_000
        for _ in range(2):
            run.end_leases()
            if point.startswith("repo_batch"):
                # Only new repos are imported in groups.
                for _ in range(4):
                    population.join(5)
            run.crawler.start(
                crash_at=f"{point}:{draw.randrange(1, 3)}", small_records=alone
            )
            if run.crawler.wait(30.0):
                died[point] += 1
                break
            run.crawler.kill()
    run.hurry.set()
    publisher.join()
    run.bring_back()
    run.network.faults.lost = 0.0
    run.end_leases()
    run.crawler.start()
    faults = run.settle(180)
    run.stop()
    return faults or run.find_notice_faults(), died


def _until(run: Simulation, *, lively: float) -> Iterator[object]:
    while not run.hurry.is_set():
        yield from run.network.population.live(20, lively=lively)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_death_at_each_crash_point_loses_nothing(
    make_run: Callable[[int, int], Simulation],
) -> None:
    run = make_run(1, 18)
    faults, died = crash_and_compare(run, list(POINTS), seed=1)
    assert faults == []
    assert set(died) == set(POINTS), set(POINTS) - set(died)
    assert run.network.faults.seen["lost"] > 0


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [31, 32, 33])
def test_many_deaths_at_crash_points_lose_nothing(
    make_run: Callable[[int, int], Simulation], seed: int
) -> None:
    run = make_run(seed, 60)
    points = list(POINTS) * 3
    random.Random(seed).shuffle(points)
    faults, died = crash_and_compare(run, points, seed=seed)
    assert faults == []
    assert set(died) == set(POINTS), set(POINTS) - set(died)
    assert died.total() >= 60


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_twenty_database_kills_lose_nothing(
    make_run: Callable[[int, int], Simulation], own_server: EmbeddedPostgres
) -> None:
    run = make_run(41, 60)
    kill_the_database(run, own_server, 20, seed=41)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_two_database_kills_lose_nothing(
    make_run: Callable[[int, int], Simulation], own_server: EmbeddedPostgres
) -> None:
    run = make_run(42, 12)
    kill_the_database(run, own_server, 2, seed=42)


def kill_the_database(
    run: Simulation, server: EmbeddedPostgres, times: int, seed: int
) -> None:
    """Kill every process of the server while one crawler goes on."""
    draw = random.Random(seed)
    population = run.network.population
    run.crawler.start()
    publisher = run.publish(
        chain(population.begin(), _until(run, lively=0.05)), rate=60
    )
    for _ in range(times):
        before = run.progress()
        run.wait_for_progress(before, 20.0)
        time.sleep(draw.uniform(0.0, 0.5))
        kill_server(server)
        time.sleep(draw.uniform(0.0, 1.0))
        server.start()
        assert run.crawler.alive, "the crawler ended with its database"
    run.hurry.set()
    publisher.join()
    run.bring_back()
    run.network.faults.lost = 0.0
    faults = run.settle(180)
    assert faults == [], run.describe()
    run.stop()
    assert run.find_notice_faults() == []


def kill_server(server: EmbeddedPostgres) -> None:
    """Kill the server with all its processes, as a power cut would."""
    assert server.pid is not None
    parent = psutil.Process(server.pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=20)
    server.stop()


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_search_entries_deleted_first_are_detected(
    make_run: Callable[[int, int], Simulation],
) -> None:
    """A planted fault: the oracle sees what a drain lost at its death."""
    draw = random.Random(4)
    run = make_run(4, 6)
    population = run.network.population
    publisher = run.publish(chain(population.begin(), _until(run, lively=0.0)), rate=60)
    for _ in range(6):
        before = run.progress()
        run.crawler.start(planted="outbox_first")
        # Far enough for something that is searched.
        run.wait_for_progress(before + 30, 10.0)
        time.sleep(draw.uniform(0.1, 0.3))
        run.crawler.kill()
    run.hurry.set()
    publisher.join()
    run.network.faults.lost = 0.0
    run.crawler.start()
    faults = run.settle(12)
    run.stop()
    assert any("in search" in fault for fault in faults), faults


def test_each_crash_point_is_passed_at_one_line() -> None:
    found: Counter[str] = Counter()
    for package in ("crawler", "indexer", "pds", "search", "service", "storage"):
        for file in (ROOT / package).rglob("*.py"):
            if file.name != "crashpoint.py":
                text = file.read_text()
                found.update(
                    {p.name: text.count(f"(Crashpoint.{p.name})") for p in Crashpoint}
                )
    assert {name for name, n in found.items() if n == 1} == {p.name for p in Crashpoint}


def test_unarmed_crash_points_do_nothing() -> None:
    code = (
        "from storage.postgres.crashpoint import Crashpoint, crashpoint\n"
        "for _ in range(2):\n"
        "    for point in Crashpoint: crashpoint(point)\n"
        "print('alive')\n"
    )

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run().stdout == "alive\n"
    assert run(CRASH_AT="outbox.told").returncode == -9
    assert run(CRASH_AT="outbox.told:2").returncode == -9
    assert run(CRASH_AT="outbox.told:3").stdout == "alive\n"
    assert run(CRASH_AT="nowhere").returncode == 1
