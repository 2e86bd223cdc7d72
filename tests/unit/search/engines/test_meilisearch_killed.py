"""A real Meilisearch that is killed in the middle of a rebuild (MEILI_BINARY)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines_under_test import meilisearch_at
from indexer_steps import Apply
from indexer_world import CLOCK, POST, author, post

from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.contract import EngineUnavailableError
from search.engines.meilisearch.engine import MeilisearchEngine
from search.engines.meilisearch.index_client import MeiliClient
from search.query.parser import parse_query
from search.rebuild import begin_rebuild, work_beside
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.pool import Conn, Pool

KEY = "key-of-a-test-0123456789"
POSTS = int(os.environ.get("MEILI_POSTS", "3000"))
_POST = COLLECTION_IDS[FEED_POST]
_PAGE = 100


class Server:
    """The server, on one port and folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            [
                os.environ["MEILI_BINARY"],
                *("--db-path", str(self._folder / "data")),
                *("--http-addr", f"127.0.0.1:{self.port}"),
                *("--env", "production", "--master-key", KEY, "--no-analytics"),
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        client = MeiliClient(self.url, KEY)
        for _ in range(600):
            if client.healthy():
                break
            time.sleep(0.1)
        client.close()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if "MEILI_BINARY" not in os.environ:
        pytest.skip("needs a Meilisearch to kill: set MEILI_BINARY")
    server = Server(tmp_path)
    yield server
    server.kill()


class Searcher:
    """Searches without a pause; notes wrong answers and failures."""

    def __init__(self, engine: MeilisearchEngine) -> None:
        self._engine = engine
        self._ends = threading.Event()
        self.right = 0
        self.wrong: list[int] = []
        self.unavailable = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        query = parse_query("common", resolve_handle=lambda _: None)
        while not self._ends.is_set():
            try:
                page = self._engine.search_records(
                    query, collections=[_POST], limit=_PAGE
                )
            except EngineUnavailableError:
                self.unavailable += 1
                time.sleep(0.05)
                continue
            if len(page.hits) == _PAGE:
                self.right += 1
            else:
                self.wrong.append(len(page.hits))

    def end(self) -> None:
        self._ends.set()
        self._thread.join()


def everything(engine: MeilisearchEngine) -> int:
    query = parse_query("common", resolve_handle=lambda _: None)
    found, after = 0, None
    while True:
        page = engine.search_records(
            query, collections=[_POST], limit=400, after=after
        ).hits
        found += len(page)
        if len(page) < 400:
            return found
        after = page[-1].keyset


def test_killed_in_a_rebuild_it_serves_on_and_loses_nothing(
    conn: Conn, pool: Pool, apply: Apply, server: Server
) -> None:
    for start in range(0, POSTS, 100):
        writer = author(start // 100)
        texts = {
            f"{POST}/{CLOCK.next()}": post(f"common word{n} and {n % 97}")
            for n in range(start, start + 100)
        }
        apply(writer.commit(texts))
    engine = meilisearch_at(pool, server.url, KEY, hot_records=POSTS // 4)
    while drain_outbox(conn, engine, TEXTS, 2_000) or work_beside(conn, engine, TEXTS):
        pass
    assert everything(engine) == POSTS
    reader = meilisearch_at(pool, server.url, KEY)
    searcher = Searcher(reader)
    begin_rebuild(conn, engine)
    kills = 0
    for delay in (0.2, 0.9):
        killer = threading.Timer(delay, server.kill)
        killer.start()
        try:
            while work_beside(conn, engine, TEXTS):
                pass
        except EngineUnavailableError:
            kills += 1
        killer.join()
        server.start()
        begin_rebuild(conn, engine)
    while drain_outbox(conn, engine, TEXTS, 2_000) or work_beside(conn, engine, TEXTS):
        pass
    assert engine.state_for_writes().rebuild is None
    found = everything(engine)
    searcher.end()
    assert (found, searcher.wrong) == (POSTS, [])
    assert searcher.right > 0
    print(f"{kills} kills in a rebuild, {searcher.right} whole answers,", end=" ")
    print(f"{searcher.unavailable} refused while the server was down, none wrong")
    reader.close()
    engine.close()
