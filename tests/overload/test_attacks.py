"""Each attack beside a client that requests a profile twice a second.

The default run checks statuses only; the long run also checks times, memory and
recovery.
"""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from appview_world import serve_world
from attacked_app import make_app
from attacks import ATTACKS, Attack, Target
from small_world import World, did
from small_world import fill as fill_small

from bench.child import open_child

POLITE = "127.0.0.2"
PATH = "/xrpc/app.bsky.actor.getProfile?actor=alice.test"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """One response to the polite client."""

    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Attacked:
    """The server, and the targets of the attacks."""

    port: int
    process: psutil.Process
    ring: str

    def ask(self) -> Response:
        started = time.monotonic()
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(POLITE, 0)
        )
        try:
            connection.request("GET", PATH)
            answer = connection.getresponse()
            answer.read()
            return Response(answer.status, time.monotonic() - started)
        finally:
            connection.close()

    def withstand(self, attack: Attack, seconds: float, size: int) -> list[Response]:
        """Request a profile twice a second during the attack; return all responses."""
        target = Target(self.port, did("alice"), self.ring, size)

        async def run() -> None:
            task = asyncio.ensure_future(attack(target))
            await asyncio.wait({task}, timeout=seconds)
            done = task.done()
            task.cancel()
            result = await asyncio.gather(task, return_exceptions=True)
            assert not done, result

        failures: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        asked = []
        while thread.is_alive():
            asked.append(self.ask())
            thread.join(max(0.0, 0.5 - asked[-1].seconds))
        assert not failures, failures
        return asked


def fill(world: World) -> dict[str, str]:
    uris = fill_small(world)
    uris["ring"] = f"at://{did('bob')}/app.bsky.feed.post/3lzzzzzzzzz2z"
    itself = {"uri": uris["ring"], "cid": world.reference(uris["hello"])["cid"]}
    world.write(
        "bob",
        "app.bsky.feed.post",
        {"text": "a ring", "reply": {"root": itself, "parent": itself}},
        "3lzzzzzzzzz2z",
    )
    for letter in "abcdefghijklmnopqrstuvwx":
        name = {"name": letter * 400_000}
        world.write("alice", "org.example.garden.plant", name, f"big{letter}")
    return uris


@pytest.fixture(scope="module")
def attacked(
    databases: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    url = databases.make("index")
    with serve_world(url, fill) as world:
        ring = world.uris["ring"]
    home: Path = tmp_path_factory.mktemp("home")
    with open_child(make_app, home, url) as served:
        (process,) = multiprocessing.active_children()
        yield Attacked(
            int(served.rpartition(":")[2]), psutil.Process(process.pid), ring
        )
    databases.drop(url)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_polite_client_gets_replies_during_an_attack(
    attacked: Attacked, attack: Attack
) -> None:
    assert attacked.ask().status == 200
    asked = attacked.withstand(attack, 1.0, 1)
    assert asked
    assert [item.status for item in asked] == [200] * len(asked)
    assert attacked.ask().status == 200


@pytest.mark.long
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_long_attack_costs_neither_time_nor_memory(
    attacked: Attacked, attack: Attack
) -> None:
    attacked.withstand(attack, 3.0, 1)
    before = attacked.process.memory_info().rss
    asked = attacked.withstand(attack, 20.0, 4)
    ended = time.monotonic()
    assert attacked.ask().status == 200
    assert time.monotonic() - ended < 2.0
    assert [item.status for item in asked] == [200] * len(asked)
    times = sorted(item.seconds for item in asked)
    assert times[int(len(times) * 0.99)] < 0.5, times[-5:]
    assert attacked.process.memory_info().rss - before < 150 * MIB
