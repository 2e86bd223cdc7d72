"""Killed at any moment, the crawler loses nothing and does nothing twice.

A made-up society writes; a child process reads its stream into Postgres and is killed
with SIGKILL again and again, and so are the database's own processes. At the end the
index must equal the society's own model. The hosts give no repo away, so what is lost
stays lost and is seen; a crawler that saves its cursor first is caught by the same
check.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawl_world import FakeHost, rebuild_root

from crawler.host_name import parse_host
from network.serve import serving_in_thread
from service.bench.society import Society
from service.embedded import EmbeddedPostgres
from storage import hosts, migrate, repos
from storage.collections import FOLLOW_SUBJECT, LIKE_SUBJECT

CHILD = Path(__file__).with_name("crawl_child.py")
ROOT = CHILD.parents[2]
_LEAD = 100


class Crawler:
    """The child process: started in a moment, killed in none."""

    def __init__(self, url: str, keys: Path) -> None:
        path = os.pathsep.join([str(ROOT), str(CHILD.parent)])
        self._parent = subprocess.Popen(
            [sys.executable, str(CHILD), url, str(keys)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        )
        self.pid = 0

    def start(self, kind: str = "") -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"start {kind}\n")
        self._parent.stdin.flush()
        self.pid = int(self._parent.stdout.readline())

    def kill(self, sent: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sent)
        # The parent ignores the end of its children, so the pid vanishes.
        end = time.monotonic() + 20
        while time.monotonic() < end and Path(f"/proc/{self.pid}").exists():
            time.sleep(0.01)

    def close(self) -> None:
        if self.pid:
            self.kill()
        self._parent.kill()
        self._parent.wait()
        for pipe in (self._parent.stdin, self._parent.stdout):
            assert pipe is not None
            pipe.close()


class Run:
    """One society, one database, one crawler."""

    def __init__(self, url: str, folder: Path, seed: int, members: int) -> None:
        self.url = url
        self.society = Society(members, seed=seed, records=0)
        self.host = FakeHost()
        self._stack = contextlib.ExitStack()
        self.host.url = self._stack.enter_context(serving_in_thread(self.host.app()))
        keys = folder / "keys.json"
        keys.write_text(
            json.dumps(
                {
                    member.did: (self.host.url, member.key.public.did_key)
                    for member in self.society.members
                }
            )
        )
        self.hurry = threading.Event()
        self._stack.callback(self.hurry.set)
        self._prepare()
        self.crawler = Crawler(url, keys)
        self._stack.callback(self.crawler.close)

    def close(self) -> None:
        self._stack.close()

    def _prepare(self) -> None:
        """Let everybody in, and keep them out of the queue of repos to fetch."""
        address = parse_host(self.host.url, dev=True)
        with psycopg.connect(self.url) as conn:
            host, _ = hosts.put_host(
                conn, address.name, address.url, source=hosts.SOURCE_CONFIGURED
            )
            conn.execute("INSERT INTO host_cursor (host, seq) VALUES (%s, 0)", (host,))
            repos.add_repos(conn, host, [m.did for m in self.society.members])
            conn.execute("UPDATE repo SET next_try = now() + interval '1 day'")

    def publish(self, frames: list[bytes]) -> threading.Thread:
        """Put frames on the stream, never far ahead of what is applied, in a thread:
        however slow the machine is, there is work left at every kill."""

        def work() -> None:
            applied = 0
            for n, raw in enumerate(frames):
                while n - applied > _LEAD and not self.hurry.is_set():
                    time.sleep(0.02)
                    applied = max(applied, self.cursor())
                self.host.send(lambda _, raw=raw: raw)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def cursor(self) -> int:
        try:
            with psycopg.connect(self.url) as conn:
                row = conn.execute("SELECT min(seq) FROM host_cursor").fetchone()
        except psycopg.OperationalError:
            return -1
        return 0 if row is None else int(row[0] or 0)

    def wait_for_progress(self, since: int, seconds: float) -> None:
        """Until something was applied after `since`, or for `seconds`."""
        end = time.monotonic() + seconds
        while self.cursor() <= since and time.monotonic() < end:
            time.sleep(0.02)

    def wait_for_end(self, seconds: float) -> None:
        last = self.host.frames[-1][0]
        end = time.monotonic() + seconds
        while self.cursor() < last:
            assert time.monotonic() < end, f"stuck at {self.cursor()} of {last}"
            time.sleep(0.05)


def find_faults(run: Run) -> list[str]:
    """Compare the index with the model; every difference is one line."""
    faults: list[str] = []
    with psycopg.connect(run.url) as conn:
        states = {
            did: (state, data)
            for did, state, data in conn.execute(
                "SELECT did, state, data FROM repo JOIN actor ON actor.id = actor"
            )
        }
        for member in run.society.members:
            if states[member.did] != ("synchronized", member.data):
                faults.append(f"{member.did} is {states[member.did][0]}")
            elif rebuild_root(conn, member.did) != member.data:
                faults.append(f"{member.did} does not rebuild")
        held = dict(
            conn.execute(
                "SELECT nsid, count(*) FROM record"
                " JOIN collection ON collection.id = collection GROUP BY nsid"
            ).fetchall()
        )
        wanted = Counter(
            key.partition(b"/")[0].decode()
            for member in run.society.members
            for key in member.records
        )
        if held != wanted:
            faults.append(f"records: {held} instead of {dict(wanted)}")
        faults += _compare_counts(conn)
        drops = dict(conn.execute("SELECT reason, n FROM drop_count").fetchall())
        drops.pop("stale_rev", None)
        if drops:
            faults.append(f"drops: {drops}")
    return faults


def _compare_counts(conn: psycopg.Connection[Any]) -> list[str]:
    """Counts that are kept, against counts made anew from the rows."""
    kept_and_counted = {
        "likes": (
            "SELECT actor, rkey, likes FROM post_stats WHERE likes <> 0",
            "SELECT target_actor, target_rkey, count(*) FROM link"
            f" WHERE path = {LIKE_SUBJECT} GROUP BY 1, 2",
        ),
        "followers": (
            "SELECT actor, followers FROM actor_stats WHERE followers <> 0",
            "SELECT target_actor, count(*) FROM link"
            f" WHERE path = {FOLLOW_SUBJECT} GROUP BY 1",
        ),
        "posts": (
            "SELECT actor, posts FROM actor_stats WHERE posts <> 0",
            "SELECT actor, count(*) FROM post GROUP BY 1",
        ),
    }
    faults = []
    for name, (kept, counted) in kept_and_counted.items():
        if set(conn.execute(kept)) != set(conn.execute(counted)):
            faults.append(f"{name} are miscounted")
    return faults


@pytest.fixture(scope="module")
def own_server(short_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server whose processes may be killed."""
    with EmbeddedPostgres(
        short_folder / "killed", settings={"fsync": "off", "shared_buffers": "32MB"}
    ) as server:
        yield server


@pytest.fixture
def make_run(
    own_server: EmbeddedPostgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[int, int], Run]]:
    with contextlib.ExitStack() as stack:

        def make(seed: int, members: int) -> Run:
            name = f"kill_{request.node.name[:20].lower()}_{seed}"
            own_server.ensure_database(name)
            url = own_server.url(name)
            migrate.upgrade(url, "index")
            run = Run(url, tmp_path, seed, members)
            stack.callback(run.close)
            return run

        yield make


def _kill_a_backend(url: str, draw: random.Random) -> bool:
    """Kill one of the crawler's database processes; the server then restarts."""
    try:
        with psycopg.connect(url, autocommit=True) as conn:
            pids = [
                row[0]
                for row in conn.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname ="
                    " current_database() AND pid <> pg_backend_pid()"
                )
            ]
    except psycopg.OperationalError:
        return False
    if not pids:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(draw.choice(pids), signal.SIGKILL)
        return True
    return False


@pytest.mark.slow
def test_kills_lose_nothing_and_repeat_nothing(
    make_run: Callable[[int, int], Run],
) -> None:
    draw = random.Random(20)
    run = make_run(1, 40)
    frames = [*run.society.births(), *run.society.frames(2_400)]
    publisher = run.publish(frames)
    database_kills = 0
    progress = [0]
    for kill in range(24):
        run.crawler.start()
        if draw.random() < 0.8:
            run.wait_for_progress(max(progress), 10.0)
        time.sleep(draw.uniform(0.0, 0.2))
        if kill % 6 == 5 and _kill_a_backend(run.url, draw):
            database_kills += 1
            time.sleep(draw.uniform(0.0, 0.3))
        run.crawler.kill()
        progress.append(run.cursor())
    assert run.cursor() < len(frames), "the kills came in the midst of the work"
    run.hurry.set()
    publisher.join()
    run.crawler.start()
    run.wait_for_end(60)
    run.crawler.kill(signal.SIGTERM)
    assert find_faults(run) == []
    assert len(set(progress)) >= 12, progress
    assert database_kills >= 3
    assert run.host.repo_requests == [], "nothing had to be healed"


@pytest.mark.slow
def test_a_cursor_that_runs_ahead_is_caught(
    make_run: Callable[[int, int], Run],
) -> None:
    draw = random.Random(3)
    run = make_run(2, 10)
    publisher = run.publish([*run.society.births(), *run.society.frames(700)])
    for _ in range(5):
        before = run.cursor()
        run.crawler.start("cursor_first")
        run.wait_for_progress(before, 10.0)
        time.sleep(draw.uniform(0.0, 0.1))
        run.crawler.kill()
    run.hurry.set()
    publisher.join()
    run.crawler.start("cursor_first")
    run.wait_for_end(60)
    run.crawler.kill(signal.SIGTERM)
    assert find_faults(run) != []
