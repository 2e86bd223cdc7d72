"""CPU of one request, ours and the reference AppView's, over the same network.

CPU is that of the server and of its Postgres backends. The table goes to the file that
REFERENCE_RATES names; times are never asserted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from judged.question import Question, Server
from judged.world import World
from reference_network import is_installed

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

REQUESTS = 100
WARM_UP = 30


@dataclass(frozen=True)
class Rate:
    """One kind of request to one server: CPU and wall time in milliseconds."""

    cpu: float
    median: float
    p99: float


def test_rates_beside_the_reference(world: World) -> None:
    lines = [
        "| request | CPU, ours | CPU, theirs | theirs / ours | p99, ours | theirs |",
        "|---|---|---|---|---|---|",
    ]
    for name, question in _questions(world):
        ours = _measure(world.ours, question, "serve", world.ours_database)
        theirs = _measure(world.theirs, question, "beside.mjs", world.theirs_database)
        lines.append(
            f"| {name} | {ours.cpu:.1f} ms | {theirs.cpu:.1f} ms |"
            f" {theirs.cpu / ours.cpu:.1f} | {ours.p99:.0f} ms | {theirs.p99:.0f} ms |"
        )
    table = "\n".join(lines) + "\n"
    Path(os.environ.get("REFERENCE_RATES", os.devnull)).write_text(table)


def _questions(world: World) -> Iterator[tuple[str, Question]]:
    stage = world.stage
    alice, bob = stage.did("alice"), stage.did("bob")
    thread = stage.refs["thread"]["uri"]
    feed, actor = "app.bsky.feed.", "app.bsky.actor."
    for viewer, name in (("", "signed out"), (alice, "signed in")):
        for label, nsid, params in (
            ("author feed of 30", feed + "getAuthorFeed", {"actor": bob, "limit": 30}),
            ("thread", feed + "getPostThread", {"uri": thread}),
            ("profile", actor + "getProfile", {"actor": bob}),
        ):
            yield f"{label}, {name}", Question(nsid, tuple(params.items()), viewer)
    for label, nsid in (
        ("timeline of 30", feed + "getTimeline"),
        ("notifications", "app.bsky.notification.listNotifications"),
    ):
        yield label, Question(nsid, (("limit", 30),), alice)


def _measure(server: Server, question: Question, word: str, database: str) -> Rate:
    for _ in range(WARM_UP):
        status, answer = server.ask(question)
        assert status == 200, (question, answer)
    before, times = _cpu(word, database), []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        assert server.ask(question)[0] == 200
        times.append(1_000 * (time.perf_counter() - started))
    spent = 1_000 * (_cpu(word, database) - before) / REQUESTS
    times.sort()
    return Rate(spent, times[len(times) // 2], times[int(len(times) * 0.99) - 1])


def _cpu(word: str, database: str) -> float:
    """Return the seconds of CPU of a server and of the backends of its database."""
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if any(part.endswith(word) for part in process.cmdline())
    ]
    assert found, f"no process runs {word}"
    with psycopg.connect(database) as conn:
        rows = conn.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    spent = 0.0
    for process in [*found, *(psutil.Process(pid) for (pid,) in rows)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent
