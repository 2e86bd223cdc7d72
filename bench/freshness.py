"""Delay from a post on a host's stream to its first search result over HTTP."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from bench.fake_accounts import POST, START_US, FakeAccounts
from bench.fake_host import Frames, host_app
from bench.index import ELSEWHERE, Index, LostError, add_accounts, add_host
from bench.metric import Progress
from bench.request import connect, get, target
from crawler.identities.network_clients import clients_opener
from crawler.live.firehose import Firehose
from crawler.live.verify import verify_commit
from indexer.index_writer import IndexWriter
from indexer.search_drain import search_drain
from network.server.listener import serving_in_thread
from network.streams.stream_server import StreamServer
from protocol.data import cbor
from protocol.events.frames import decode_frame
from search.engines.postgres import PostgresEngine
from storage.cursors import save_cursors
from storage.records.interning import Interner

SEARCH_POSTS: Final = "app.bsky.feed.searchPosts"

_PATIENCE_S: Final = 30.0
_LATER_US: Final = START_US + 10**12
_ENDLESS: Final = 10**9


Send = Callable[[bytes], None]
"""Send a frame on the stream of a host that is crawled."""


def measure_freshness(
    send: Send, fakes: FakeAccounts, provider: str, posts: int, progress: Progress
) -> list[float]:
    """Return the delays in seconds of `posts` posts; search runs without pauses."""
    waits: list[float] = []
    with closing(connect(provider)) as connection:
        for frame in fakes.frames(_ENDLESS, others=False):
            started = time.perf_counter()
            send(frame)
            post = _new_post(fakes, frame)
            if post is None:
                continue
            uri, search = post
            while uri not in get(connection, search):
                if time.perf_counter() - started > _PATIENCE_S:
                    raise LostError(f"{uri!r} was not found")
            waits.append(time.perf_counter() - started)
            progress.count("posts", len(waits), posts)
            if len(waits) == posts:
                break
    return waits


@contextmanager
def ingesting(send: Send, fakes: FakeAccounts, per_s: float) -> Iterator[None]:
    """Send live commits at a rate, from a thread, while the body runs."""
    stop = threading.Event()

    def work() -> None:
        for frame in fakes.frames(_ENDLESS, others=False):
            send(frame)
            if stop.wait(1 / per_s):
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def live_host(index: Index, fakes: FakeAccounts) -> Iterator[Send]:
    """Crawl a host with the accounts; yield a function that sends a frame."""
    frames = Frames()
    stream = StreamServer(frames)

    def send(frame: bytes) -> None:
        frames.add(frame)
        stream.wake()

    with (
        tempfile.TemporaryDirectory(prefix="bw-host-") as folder,
        serving_in_thread(host_app(stream, Path(folder))) as url,
        search_drain(index.pool, PostgresEngine(index.pool)) as drain,
    ):
        host = add_host(index, url, relay=True)
        add_accounts(index, host, ELSEWHERE, fakes.members)
        with index.pool.connection() as conn:
            save_cursors(conn, {host: 0})
        with _crawling(index, drain.wake):
            yield send


def _new_post(fakes: FakeAccounts, frame: bytes) -> tuple[bytes, str] | None:
    """Return the URI of a post in a frame, and a search that lists it first."""
    body = decode_frame(frame).body
    event = verify_commit(body, fakes.keys[body["repo"]], _LATER_US)
    for op in event.ops:
        if op.collection == POST and op.action == "create" and op.value is not None:
            word = cbor.decode_fast(op.value)["text"].split()[0]
            params = {"q": word, "author": event.did, "sort": "latest", "limit": 5}
            uri = f"at://{event.did}/{POST}/{op.rkey}"
            return uri.encode(), target(SEARCH_POSTS, params)
    return None


@contextmanager
def _crawling(index: Index, on_written: Callable[[], None]) -> Iterator[None]:
    """Run the crawl in a thread."""
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    firehose = Firehose(
        index.settings,
        index.url,
        index.pool,
        IndexWriter(index.pool, Interner(index.names), on_written),
        clients_opener(index.names, index.settings),
    )
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(firehose.run(stop))
    )
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
