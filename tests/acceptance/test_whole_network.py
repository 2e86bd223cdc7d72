"""`bigworld up` from the first start: search across servers, crashes, stop, restart."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTS = 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Network:
    """A `bigworld up` in a folder of its own."""

    def __init__(self, home: Path, port_base: int) -> None:
        self.home = home
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("BIGWORLD_")},
            "BIGWORLD_HOME": str(home),
            "BIGWORLD_PORT_BASE": str(port_base),
        }
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another verb beside the running network."""
        return subprocess.run(
            [sys.executable, "-m", "service.cli.app", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *arguments: str) -> float:
        """Start and wait for the line that begins with `ready`; return the seconds."""
        started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli.app", "up", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("ready"):
                return time.monotonic() - started
        raise AssertionError("\n".join(self.lines))

    def stop(self) -> int:
        """Send Ctrl-C; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        self.lines += output.splitlines()
        return self.process.returncode

    @property
    def endpoints(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "endpoints.json").read_text())
        return found

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)


def call(url: str, token: str | None = None, body: Any = None, **params: Any) -> Any:
    query = f"?{urlencode(params)}" if params else ""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["content-type"] = "application/json"
    with urlopen(Request(url + query, data, headers), timeout=30) as answer:
        return json.load(answer)


def login(account: dict[str, str]) -> str:
    body = {"identifier": account["handle"], "password": account["password"]}
    answer = call(f"{account['pds']}/xrpc/com.atproto.server.createSession", body=body)
    token: str = answer["accessJwt"]
    return token


def four_ports() -> int:
    """Return the first of four free ports in a row."""
    # Random, so that two runs on one machine rarely meet.
    for base in random.sample(range(20_000, 30_000, 10), 1_000):
        sockets = [socket.socket() for _ in range(PORTS)]
        try:
            for offset, each in enumerate(sockets):
                each.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        else:
            return base
        finally:
            for each in sockets:
                each.close()
    raise AssertionError("no four ports in a row are free")


def test_unusable_host_is_refused_at_once(tmp_path: Path) -> None:
    refused = Network(tmp_path / "refused", 20_000).run("up", "--host", "https://x:1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("bigworld: hosts: not a public host name")
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "refused").exists()


@pytest.fixture(scope="module")
def network(short_folder: Path) -> Iterator[Network]:
    made = Network(short_folder / "up", four_ports())
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def test_first_start_indexes_all_demo_accounts(network: Network) -> None:
    shown = "\n".join(network.lines)
    assert "indexed 220/220" in shown
    assert stat.S_IMODE((network.home / "endpoints.json").stat().st_mode) == 0o600
    endpoints = network.endpoints
    assert endpoints["provider"]["did"].startswith("did:web:localhost%3A")
    assert len(endpoints["accounts"]) == 4
    document = call(f"{endpoints['provider']['url']}/.well-known/did.json")
    assert document["id"] == endpoints["provider"]["did"]


def test_every_repo_passes_the_audit(network: Network) -> None:
    audited = network.run("repo", "audit", "--json", "--counts")
    assert audited.returncode == 0, audited.stderr
    repos = [json.loads(line) for line in audited.stdout.splitlines()]
    assert len(repos) >= 200
    assert all(repo["ok"] for repo in repos)
    assert sum(repo["records"] for repo in repos) >= 5_000
    assert sum(repo["dropped"] for repo in repos) == 0


def test_post_on_one_pds_is_found_through_the_other(network: Network) -> None:
    alice, bob = network.endpoints["accounts"][:2]
    writer, reader = login(alice), login(bob)
    search = f"{bob['pds']}/xrpc/app.bsky.feed.searchPosts"
    word = f"quokka{time.time_ns()}"
    assert call(search, reader, q=word)["posts"] == []
    record = {
        "text": f"a {word} in the garden",
        "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    body = {"repo": alice["did"], "collection": "app.bsky.feed.post", "record": record}
    made = call(f"{alice['pds']}/xrpc/com.atproto.repo.createRecord", writer, body=body)
    written = time.monotonic()
    found: list[Any] = []
    while not found and time.monotonic() - written < 10:
        found = call(search, reader, q=word)["posts"]
    waited = time.monotonic() - written
    assert [post["uri"] for post in found] == [made["uri"]]
    assert found[0]["author"]["handle"] == alice["handle"]
    # One second on an idle machine.
    assert waited < 5


def shown_metrics(network: Network) -> str:
    password = (network.home / "secrets" / "admin-password").read_text().strip()
    request = Request(
        f"{network.endpoints['provider']['url']}/metrics",
        headers={"Authorization": f"Bearer {password}"},
    )
    with urlopen(request) as answer:
        shown: str = answer.read().decode()
    return shown


def test_metrics_count_requests(network: Network) -> None:
    shown = shown_metrics(network)
    assert 'bigworld_repos{state="synchronized"} 2' in shown
    assert 'method="app.bsky.feed.searchPosts",status="2xx"' in shown


def wait_for_repos(other: Network, count: int) -> None:
    """Wait until a network has `count` synchronized repos, by its metrics."""
    deadline = time.monotonic() + 120
    line = f'bigworld_repos{{state="synchronized"}} {count}.0'
    while line not in shown_metrics(other).splitlines():
        assert time.monotonic() < deadline, other.run("repo", "--json").stdout
        time.sleep(0.2)


@pytest.mark.long
def test_up_with_host_indexes_up_to_the_account_cap(
    network: Network, short_folder: Path
) -> None:
    other = Network(short_folder / "host", four_ports())
    other.environment |= {
        "BIGWORLD_DEV_NETWORK": "true",
        "BIGWORLD_PLC_URL": network.endpoints["plc"],
        "BIGWORLD_ACCOUNT_CAP": "7",
        "BIGWORLD_HOST_REQUESTS_PER_S": "200",
    }
    other.start("--host", network.endpoints["pds"]["b"])
    try:
        assert "plc" not in {path.stem for path in (other.home / "logs").iterdir()}
        wait_for_repos(other, 7)
        time.sleep(3)
        assert len(other.run("repo", "--json").stdout.splitlines()) == 7
        assert other.run("repo", "audit").returncode == 0
    finally:
        assert other.stop() == 0


@pytest.mark.long
def test_up_with_did_indexes_one_account(network: Network, short_folder: Path) -> None:
    other = Network(short_folder / "did", four_ports())
    other.environment |= {
        "BIGWORLD_DEV_NETWORK": "true",
        "BIGWORLD_PLC_URL": network.endpoints["plc"],
        "BIGWORLD_HOST_REQUESTS_PER_S": "200",
    }
    bob = network.endpoints["accounts"][1]["did"]
    other.start("--did", bob)
    try:
        wait_for_repos(other, 1)
        time.sleep(3)
        listed = other.run("repo", "--json").stdout.splitlines()
        assert [json.loads(line)["did"] for line in listed] == [bob]
    finally:
        assert other.stop() == 0


def test_killed_child_is_restarted(network: Network) -> None:
    serve = next(c for c in network.children() if c.cmdline()[-1:] == ["serve"])
    serve.kill()
    health = f"{network.endpoints['provider']['url']}/xrpc/_health"
    deadline = time.monotonic() + 60
    while True:
        try:
            call(health)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert serve.pid not in {child.pid for child in network.children()}


VICTIMS: dict[str, Callable[[psutil.Process], bool]] = {
    "serve": lambda p: p.cmdline()[-1:] == ["serve"],
    "crawl": lambda p: p.cmdline()[-1:] == ["crawl"],
    "pds a": lambda p: p.cmdline()[-2:] == ["pds", "a"],
    "pds b": lambda p: p.cmdline()[-2:] == ["pds", "b"],
    "plc": lambda p: p.cmdline()[-1:] == ["plc"],
    "worker": lambda p: "worker" in p.cmdline(),
    "valkey": lambda p: "valkey-server" in p.name(),
    "postgres": lambda p: p.name() == "postgres" and p.parent().name() != "postgres",
}
"""Kind of process -> a function that recognizes it."""


@pytest.mark.long
def test_acknowledged_writes_survive_kills_of_every_process(network: Network) -> None:
    writers = [(a, login(a)) for a in network.endpoints["accounts"][:2]]
    made: dict[str, str] = {}
    victims = list(VICTIMS)
    deadline = time.monotonic() + 420
    while len(made) < 200:
        assert time.monotonic() < deadline, f"{len(made)} writes, {victims} to kill"
        if victims and len(made) >= 200 // len(VICTIMS) * (8 - len(victims)):
            name = victims.pop(0)
            found = [p for p in network.children() if VICTIMS[name](p)]
            assert found, name
            for process in found:
                process.kill()
        account, token = writers[len(made) % 2]
        record = {
            "text": f"survives {len(made)}",
            "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        body = {"repo": account["did"], "collection": "app.bsky.feed.post"}
        url = f"{account['pds']}/xrpc/com.atproto.repo.createRecord"
        try:
            written = call(url, token, body=body | {"record": record})
        except OSError:
            time.sleep(0.2)  # it was not acknowledged
            continue
        made[written["uri"]] = account["pds"]
    provider = network.endpoints["provider"]["url"]
    left = dict(made)
    deadline = time.monotonic() + 240
    while left:
        assert time.monotonic() < deadline, f"{len(left)} of 200 are missing: {left}"
        asked = list(left)[:25]
        try:
            for uri in asked:
                did, nsid, rkey = uri.removeprefix("at://").split("/")
                own = f"{left[uri]}/xrpc/com.atproto.repo.getRecord"
                call(own, repo=did, collection=nsid, rkey=rkey)
            query = urlencode({"uris": asked}, doseq=True)
            shown = call(f"{provider}/xrpc/app.bsky.feed.getPosts?{query}")["posts"]
        except OSError:
            shown = []
        for post in shown:
            del left[post["uri"]]
        if len(shown) < len(asked):
            time.sleep(0.5)


def test_stop_is_clean_and_data_survives(network: Network) -> None:
    children = network.children()
    assert len(children) >= 8
    assert network.stop() == 0
    # A grandchild outlives its parent for a moment.
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert "serve exited (SIGKILL); restarting" in "\n".join(network.lines)
    seconds = network.start()
    assert "accounts" not in "\n".join(network.lines[-16:])
    alice = network.endpoints["accounts"][0]
    profile = f"{network.endpoints['provider']['url']}/xrpc/app.bsky.actor.getProfile"
    assert call(profile, actor=alice["handle"])["did"] == alice["did"]
    # Under 20 s on an idle machine.
    assert seconds < 90
