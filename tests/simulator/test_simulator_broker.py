"""Scheduled tasks crawl while the broker is killed and sometimes loses its data.

No stream is read, so work lost with a message would stay lost. At the end the oracle
compares rows, counts and search.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from simulated_network import SimulatedNetwork
from simulation import Simulation

from service.runtime.celery_app import QUEUE
from service.runtime.embedded import EmbeddedValkey
from storage.hosts import host_rows

CHILD = Path(__file__).with_name("worker_child.py")
PATHS = (CHILD.parents[2], CHILD.parent, CHILD.parents[1] / "integration")
SETTINGS = {
    "refresh_interval": 0.5,
    "identity_age": 2.0,
    "poll_interval": 0.3,
    "poll_longest": 1.0,
    "backfill_lease": 5.0,
}
EVENTS = ("new key", "move", "new handle", "rest", "come back", "end")
PATIENCE_S = 120.0


class BrokerRun:
    """A network with events, a worker, and the broker."""

    def __init__(
        self,
        url: str,
        folder: Path,
        home: Path,
        *,
        seed: int,
        accounts: int,
        **world: Any,
    ) -> None:
        self.network = SimulatedNetwork(hosts=3, accounts=accounts, seed=seed)
        for host in self.network.hosts.values():
            # Some repo is always being fetched.
            host.before_repo = lambda _: time.sleep(0.1)
        self.simulation = Simulation(url, folder, self.network, search=True)
        self._home = home
        self.broker = EmbeddedValkey(home)
        self.broker.start()
        self.caught = 0
        self._url = url
        self._ended = threading.Event()
        with psycopg.connect(url) as conn:
            for row in self.simulation.rows.values():
                host_rows.move_host(
                    conn, row, host_rows.HOST_POLLING, "quiet, for this test"
                )
        file = folder / "worker.json"
        directory = self.network.directory.url
        file.write_text(json.dumps({"plc": directory, "settings": SETTINGS} | world))
        self.worker = subprocess.Popen(
            [sys.executable, str(CHILD), url, self.broker.celery_url(), str(file)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))},
        )
        self._life = threading.Thread(target=self._live)

    def _live(self) -> None:
        population = self.network.population
        draw = random.Random(7)
        while not self._ended.wait(0.1):
            for _ in population.live(5):
                pass
            if draw.random() < 0.1:
                population.do(draw.choice(EVENTS))

    def begin(self) -> None:
        """Wait until all accounts are known, then produce events."""
        for _ in self.network.population.begin():
            pass
        end = time.monotonic() + PATIENCE_S
        with psycopg.connect(self._url, autocommit=True) as conn:
            while time.monotonic() < end:
                row = conn.execute("SELECT count(*) FROM repo").fetchone()
                if row == (len(self.network.population.members),):
                    break
                time.sleep(0.05)
        self._life.start()

    def wait_for_tasks(self) -> float:
        """Wait until three new tasks are done; return the seconds that took."""
        began = time.monotonic()
        with psycopg.connect(self._url, autocommit=True) as conn:
            since = conn.execute("SELECT clock_timestamp()").fetchone()
            assert since is not None
            while time.monotonic() < began + PATIENCE_S:
                assert self.worker.poll() is None, "the worker has ended"
                done = conn.execute(
                    "SELECT count(*) FROM pulse WHERE starts_with(name, 'task/') AND at"
                    " - make_interval(secs => (figures->>'seconds')::float8) > %s",
                    since,
                ).fetchone()
                if done is not None and done[0] >= 3:
                    return time.monotonic() - began
                time.sleep(0.05)
        raise AssertionError("no task runs any more")

    def wait_for_message(self, task: str) -> None:
        """Wait until the broker holds a message for this task."""
        with redis.Redis.from_url(self.broker.url()) as client:
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end:
                # redis-py's types say that this may be awaited.
                waiting: Any = client.lrange(QUEUE, 0, -1)
                if any(f'"{task}"'.encode() in message for message in waiting):
                    return
                time.sleep(0.005)
        raise AssertionError(f"no message for {task} ever waits")

    def kill_broker(self, *, rob: bool) -> None:
        """Kill the broker; with `rob` it comes back empty."""
        with redis.Redis.from_url(self.broker.url()) as client:
            self.caught += bool(client.llen(QUEUE) or client.hlen("unacked"))
        assert self.broker.pid is not None
        os.kill(self.broker.pid, signal.SIGKILL)
        self.broker.stop()
        if rob:
            shutil.rmtree(self._home / "data")

    def end(self, seconds: float) -> list[str]:
        """Stop all events; return the faults left after so many seconds."""
        self._ended.set()
        self._life.join(30)
        with self.network.population.lock:
            self.simulation.bring_back()
        for host in self.network.hosts.values():
            # The streams are not read here.
            host.frames.clear()
        return self.simulation.settle(seconds)

    def close(self) -> None:
        self._ended.set()
        if self._life.is_alive():
            self._life.join(30)
        family = [psutil.Process(self.worker.pid)] if self.worker.poll() is None else []
        family += [child for one in family for child in one.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.worker.wait(30)
        self.broker.stop()
        self.simulation.close()
        self.network.close()


@contextlib.contextmanager
def broker_run(url: str, folder: Path, home: Path, **more: Any) -> Iterator[BrokerRun]:
    run = BrokerRun(url, folder, home, **more)
    try:
        yield run
    finally:
        run.close()


def kill_and_settle(
    run: BrokerRun, kills: int, seed: int, patience: float
) -> list[str]:
    draw = random.Random(seed)
    run.begin()
    waits = []
    for kill in range(kills):
        time.sleep(draw.uniform(0.0, 1.0))
        run.kill_broker(rob=kill % 2 == 1)
        time.sleep(draw.uniform(0.0, 1.0))
        run.broker.start()
        waits.append(run.wait_for_tasks())
    faults = run.end(patience)
    print(
        f"\n{kills} kills, {run.caught} of them with messages in the broker; tasks ran"
        f" again after {min(waits):.1f} to {max(waits):.1f} s"
    )
    return faults


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_broker_kills_lose_no_work(
    index_db: str, tmp_path: Path, short_folder: Path
) -> None:
    home = short_folder / "broker"
    with broker_run(index_db, tmp_path, home, seed=51, accounts=8) as run:
        faults = kill_and_settle(run, 2, 51, 180)
        assert faults == [], run.simulation.describe()


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_twenty_broker_kills_lose_no_work(
    index_db: str, tmp_path: Path, short_folder: Path
) -> None:
    home = short_folder / "brokers"
    with broker_run(index_db, tmp_path, home, seed=52, accounts=60) as run:
        faults = kill_and_settle(run, 20, 52, 300)
        assert faults == [], run.simulation.describe()
        assert run.caught >= 5


@pytest.mark.long
@pytest.mark.timeout(600)
def test_work_kept_in_broker_only_is_detected(
    index_db: str, tmp_path: Path, short_folder: Path
) -> None:
    home = short_folder / "trusted"
    more = {"seed": 53, "accounts": 40, "planted": True}
    with broker_run(index_db, tmp_path, home, **more) as run:
        run.begin()
        for _ in range(3):
            run.wait_for_message("fetch_one")
            run.kill_broker(rob=True)
            run.broker.start()
            run.wait_for_tasks()
        faults = run.end(30)
    assert any("rev" in fault or "missing" in fault for fault in faults), faults
