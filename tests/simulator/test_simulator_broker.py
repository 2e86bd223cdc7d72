"""The broker is killed, and sometimes robbed of all it holds, while scheduled tasks
crawl: hosts are polled, repos fetched, identities read anew, accounts removed.

No stream is read, so whatever a lost message took along would stay lost. At the end
rows, counts and search are what the oracle knows.
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

from service.celery_app import QUEUE
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
    """A network that lives on, a worker that looks at it, and the broker between the
    worker's beat and its threads."""

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
            # Somebody is always being fetched.
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
        society = self.network.society
        draw = random.Random(7)
        while not self._ended.wait(0.1):
            for _ in society.live(5):
                pass
            if draw.random() < 0.1:
                society.do(draw.choice(EVENTS))

    def begin(self) -> None:
        """Everybody is let in, for nobody ever hears of who came and went between two
        polls; then they go on to live."""
        for _ in self.network.society.begin():
            pass
        end = time.monotonic() + PATIENCE_S
        with psycopg.connect(self._url, autocommit=True) as conn:
            while time.monotonic() < end:
                row = conn.execute("SELECT count(*) FROM repo").fetchone()
                if row == (len(self.network.society.members),):
                    break
                time.sleep(0.05)
        self._life.start()

    def wait_for_tasks(self) -> float:
        """Until three tasks were begun and done since now; how many seconds that
        took."""
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
        """Until the broker holds one for this task that no worker has taken."""
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
        """SIGKILL; with `rob` it comes back with nothing."""
        with redis.Redis.from_url(self.broker.url()) as client:
            self.caught += bool(client.llen(QUEUE) or client.hlen("unacked"))
        assert self.broker.pid is not None
        os.kill(self.broker.pid, signal.SIGKILL)
        self.broker.stop()
        if rob:
            shutil.rmtree(self._home / "data")

    def end(self, seconds: float) -> list[str]:
        """Let nothing more happen; what is wrong after so many seconds at most."""
        self._ended.set()
        self._life.join(30)
        with self.network.society.lock:
            self.simulation.bring_back()
        for host in self.network.hosts.values():
            # What was told on the streams nobody has read.
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
        time.sleep(draw.uniform(0.0, 2.0))
        run.kill_broker(rob=kill % 2 == 1)
        time.sleep(draw.uniform(0.0, 2.0))
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
def test_the_broker_killed_and_robbed_loses_nothing(
    index_db: str, tmp_path: Path, short_folder: Path
) -> None:
    home = short_folder / "broker"
    with broker_run(index_db, tmp_path, home, seed=51, accounts=12) as run:
        faults = kill_and_settle(run, 2, 51, 180)
        assert faults == [], run.simulation.describe()


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_the_broker_killed_twenty_times_loses_nothing(
    index_db: str, tmp_path: Path, short_folder: Path
) -> None:
    home = short_folder / "brokers"
    with broker_run(index_db, tmp_path, home, seed=52, accounts=60) as run:
        faults = kill_and_settle(run, 20, 52, 300)
        assert faults == [], run.simulation.describe()
        assert run.caught >= 5


@pytest.mark.long
@pytest.mark.timeout(600)
def test_work_that_only_the_broker_knows_of_is_missed(
    index_db: str, tmp_path: Path, short_folder: Path
) -> None:
    """A planted fault: what is handed out by messages is gone with them."""
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
