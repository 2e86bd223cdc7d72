"""`serve` as several processes behind one port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest

from service.runtime.config import Config
from service.runtime.forked_processes import check_port
from service.runtime.secrets import admin_password

BURST = 40
PROCESSES = 3
HEALTH = "/xrpc/_health"
METHOD = "app.bsky.labeler.getServices"


class Site:
    """A running `serve`, asked over a new connection each time."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], home: Path) -> None:
        self.port = port
        self.process = process
        self.password = admin_password(Config.read(home=home))

    def ask(self, path: str = HEALTH, client: str = "", **headers: str) -> int:
        return self.read(path, client, **headers)[0]

    def read(self, path: str, client: str = "", **headers: str) -> tuple[int, str]:
        """Return the status and the body. A reply later than 5 s is an error."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        if client:
            headers["X-Forwarded-For"] = client
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def children(self) -> list[int]:
        """Return the ids of the processes that listen on the port."""
        return [
            child.pid
            for child in psutil.Process(self.process.pid).children()
            if any(
                each.laddr.port == self.port and each.status == psutil.CONN_LISTEN
                for each in connections_of(child)
            )
        ]

    def wait(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, "serve ended"
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.05)


def connections_of(process: psutil.Process) -> list[psutil._common.pconn]:
    try:
        return list(process.net_connections("tcp4"))
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def site(index_db: str, tmp_path: Path, free_port: int) -> Iterator[Site]:
    environment = os.environ | {
        "BIGWORLD_HOME": str(tmp_path),
        "BIGWORLD_PORT_BASE": str(free_port),
        "BIGWORLD_SERVE_PROCESSES": str(PROCESSES),
        "BIGWORLD_CLIENT_BURST": str(BURST),
        "BIGWORLD_CLIENT_REQUESTS_PER_S": "0.0001",
        "DATABASE_URL": index_db,
    }
    argv = [sys.executable, "-m", "service.cli.app", "serve"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    found = Site(free_port, process, tmp_path)
    try:
        found.wait(lambda: len(found.children()) == PROCESSES)
        yield found
    finally:
        process.kill()
        process.wait()


def metric(text: str, start: str) -> float:
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(start)
    )


def test_processes_share_limits_and_figures_and_survive_a_kill(site: Site) -> None:
    # One client over new connections, which the kernel spreads.
    statuses = Counter(site.ask(client="9.0.0.1") for _ in range(BURST + 20))
    assert statuses == {200: BURST, 429: 20}

    # All replies are in the metrics of any process.
    for number in range(30):
        path = f"/xrpc/{METHOD}?dids=did:plc:{'a' * 24}"
        assert site.ask(path, client=f"9.0.1.{number}") == 200
    credentials = f"admin:{site.password}".encode()
    header = "Basic " + b64encode(credentials).decode()
    for _ in range(6):
        status, text = site.read("/metrics", Authorization=header)
        assert status == 200
        assert metric(text, f'bigworld_requests_total{{method="{METHOD}"') == 30
        count = f'bigworld_request_seconds_count{{method="{METHOD}"'
        assert metric(text, count) == 30

    # A killed process: no wrong limit, no reply later than 5 s, and a new process.
    results: list[str] = []
    stop = threading.Event()

    def ask_all_the_time() -> None:
        while not stop.is_set():
            try:
                results.append(str(site.ask(client="9.0.2.1")))
            except (ConnectionError, HTTPException) as error:
                results.append(type(error).__name__)
            except TimeoutError:
                results.append("late")

    thread = threading.Thread(target=ask_all_the_time)
    before = site.children()
    thread.start()
    try:
        for pid in before[:2]:
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        site.wait(lambda: len(site.children()) == PROCESSES)
    finally:
        stop.set()
        thread.join()
    assert set(site.children()) & set(before) == {before[2]}
    found = Counter(results)
    assert "late" not in found
    broken = sum(n for what, n in found.items() if what not in ("200", "429"))
    assert BURST - broken <= found["200"] <= BURST
    assert found["429"] > 0
    # The limits of the time before hold, also in the new processes.
    assert {site.ask(client="9.0.0.1") for _ in range(12)} == {429}
    _, text = site.read("/metrics", Authorization=header)
    assert metric(text, f'bigworld_requests_total{{method="{METHOD}"') == 30

    # A second server must not share the port.
    with pytest.raises(OSError, match="in use"):
        check_port("127.0.0.1", site.port)

    # A stop ends all.
    children = psutil.Process(site.process.pid).children()
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(15) == 0
    assert not any(child.is_running() for child in children)


def test_processes_end_with_their_killed_parent(site: Site) -> None:
    children = psutil.Process(site.process.pid).children()
    site.process.kill()
    site.process.wait()
    _, alive = psutil.wait_procs(children, timeout=15)
    assert alive == []
