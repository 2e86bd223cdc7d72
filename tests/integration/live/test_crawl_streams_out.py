"""Rebroadcast events: another index follows them as a relay, Jetstream clients read
them, and both resume where they stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard
from crawl_author import Author, account_frame, post
from crawl_world import CrawlWorld, rebuild_root, wait_for_stream, wait_until

from crawler.hosts.host_name import parse_host
from indexer.event_numbering import EventRetention, event_numbering
from indexer.index_writer import IndexWriter
from mirror import stream_routes as routes
from network.http.client import Fetcher
from network.http.policy import Policy
from network.server.listener import serving_in_thread
from network.streams.stream_client import StreamClient
from network.streams.stream_events import StreamTimes
from protocol.data.cid import cid_for, cid_to_text
from protocol.events.frames import decode_frame
from protocol.syntax.tid import is_tid
from service.provider import create_app
from service.runtime.config import Config
from storage.hosts import host_rows
from storage.postgres.pool import open_pool
from storage.records import event_log
from storage.records.interning import Interner

POST = "app.bsky.feed.post"
LIKE = "app.bsky.feed.like"
EVERYTHING = EventRetention(hours=1.0, megabytes=1_000)
DEV = Policy(allow_loopback=True, stream_dials_per_s=1_000.0)
PATIENCE = 60.0


class Publisher:
    """An index that logs what it applies, and the provider on it."""

    def __init__(self, url: str, home: Path, stack: ExitStack) -> None:
        self.world = CrawlWorld(url)
        stack.callback(self.world.close)
        names = stack.enter_context(open_pool(url, max=4))
        numbering = event_numbering(self.world.pool, EVERYTHING)
        stack.enter_context(numbering)
        self.world.sink = IndexWriter(
            self.world.pool, Interner(names), numbering.wake, rebroadcast=True
        )
        config = Config.read(home=home, dev_network=True, event_log=True)
        self.url = stack.enter_context(serving_in_thread(create_app(config, url)))
        self.host = self.world.add_host()

    @property
    def socket(self) -> str:
        return f"ws{self.url.removeprefix('http')}"

    def bounds(self) -> event_log.LogBounds:
        with self.world.pool.connection() as conn:
            return event_log.load_bounds(conn)

    def crawl(self) -> Any:
        return self.world.crawling(rebroadcast=True)

    def write(self, author: Author, name: str, collection: str = POST) -> int:
        return self.host.post(author, ("create", f"{collection}/{name}", post(name)))


@pytest.fixture
def publisher(index_db: str, tmp_path: Path) -> Iterator[Publisher]:
    with ExitStack() as stack:
        yield Publisher(index_db, tmp_path, stack)


def follower_of(publisher: Publisher, url: str, stack: ExitStack) -> CrawlWorld:
    """Return another index that uses the first as a relay."""
    world = CrawlWorld(url)
    stack.callback(world.close)
    world.open_clients = publisher.world.open_clients
    address = parse_host(publisher.url, dev=True)
    with world.pool.connection() as conn:
        host_rows.put_host(
            conn,
            address.name,
            address.url,
            source=host_rows.SOURCE_CONFIGURED,
            relay=True,
        )
    return world


def test_index_serves_another_index_as_a_relay(
    publisher: Publisher, make_database: Callable[[str], str]
) -> None:
    first = publisher.world
    authors = [first.add_author(n, publisher.host) for n in range(4)]
    for author in authors:
        # Written before the crawl: these repos are fetched.
        author.write([("create", f"{POST}/before", post("before"))])
    with ExitStack() as stack:
        second = follower_of(publisher, make_database("index"), stack)
        with publisher.crawl(), second.crawling() as crawl:
            wait_for_stream(publisher.host)
            wait_until(lambda: crawl.streams == 1, PATIENCE)
            for n in range(3):
                for author in authors:
                    publisher.write(author, f"one{n}")
            wait_until(lambda: first.follows(*authors), PATIENCE)
            wait_until(lambda: second.follows(*authors), PATIENCE)
            # A commit is lost: the first index fetches the repo, and its frames are
            # enough for the second.
            authors[0].write([("create", f"{POST}/lost", post("lost"))])
            publisher.write(authors[0], "found")
            wait_until(lambda: first.follows(authors[0]), PATIENCE)
            wait_until(lambda: second.follows(authors[0]), PATIENCE)
            publisher.host.tell(authors[1], False, "deleted")
            query = "SELECT count(*) FROM actor WHERE upstream_status = 'deleted'"
            wait_until(lambda: second.query(query) == [(1,)], PATIENCE)
        with publisher.crawl():
            wait_for_stream(publisher.host)
            for author in authors[2:]:
                publisher.write(author, "later")
            wait_until(lambda: first.follows(*authors[2:]), PATIENCE)
        with second.crawling():
            wait_until(lambda: second.follows(authors[0], *authors[2:]), PATIENCE)
        # Frames of an account drop until its document is known.
        unknown = {"unknown_account", "unresolved_identity"}
        assert set(second.drops()) <= {"desynchronized", "stale_rev"} | unknown
        for author in (authors[0], *authors[2:]):
            for world in (first, second):
                with world.pool.connection() as conn:
                    assert rebuild_root(conn, author.did) == author.data


async def read_frames(url: str, cursor: int | None, count: int) -> list[Any]:
    found = []
    times = StreamTimes(first=0.01, longest=0.01)
    async with (
        Fetcher(DEV) as fetcher,
        StreamClient(fetcher, url, cursor, times=times, max_failures=1) as stream,
    ):
        for _ in range(count):
            found.append(decode_frame(await asyncio.wait_for(anext(stream), PATIENCE)))
    return found


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def publish(publisher: Publisher, names: list[str]) -> Author:
    """Return one new account that writes these posts; all of it is logged and
    numbered."""
    author = publisher.world.add_author(9, publisher.host)
    with publisher.crawl():
        wait_for_stream(publisher.host)
        for name in names:
            publisher.write(author, name)
        wait_until(lambda: publisher.world.follows(author), PATIENCE)
        wait_until(lambda: publisher.bounds().newest >= 1, PATIENCE)
    return author


def test_rebroadcast_frames_differ_in_the_number_only(publisher: Publisher) -> None:
    author = publish(publisher, ["a"])
    with publisher.crawl():
        wait_for_stream(publisher.host)
        for name in ("b", "c", "d"):
            publisher.write(author, name)
        before = publisher.bounds().newest
        wait_until(lambda: publisher.bounds().newest >= before + 3, PATIENCE)
    url = f"{publisher.socket}/xrpc/{routes.SUBSCRIBE_REPOS}"
    newest = publisher.bounds().newest
    frames = run(read_frames(url, 0, newest))
    assert [frame.body["seq"] for frame in frames] == list(range(1, newest + 1))
    commits = [frame.body for frame in frames if frame.t == "#commit"]
    sent = {body["rev"]: body for body in commits}
    theirs = [decode_frame(raw).body for _, raw in publisher.host.frames][-3:]
    for body in theirs:
        assert {**sent[body["rev"]], "seq": 0} == {**body, "seq": 0}
    assert run(read_frames(url, newest - 1, 1))[0].body["seq"] == newest
    (error,) = run(read_frames(url, newest + 5, 1))
    assert error.body["error"] == "FutureCursor"
    with publisher.world.pool.connection() as conn:
        sum(event_log.prune(conn, before_us=2**62, max_bytes=2**62))
    (info,) = run(read_frames(url, newest - 1, 1))
    assert info.body["name"] == "OutdatedCursor"


@asynccontextmanager
async def jetstream(
    publisher: Publisher, query: str = "", **headers: str
) -> AsyncIterator[Callable[..., Coroutine[Any, Any, Any]]]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{publisher.socket}/subscribe?{query}", headers=headers
        ) as socket,
    ):

        async def read(update: Any = None) -> Any:
            if update is not None:
                await socket.send_str(json.dumps(update))
            message = await asyncio.wait_for(socket.receive(), PATIENCE)
            if message.type is aiohttp.WSMsgType.TEXT:
                return json.loads(message.data)
            if message.type is aiohttp.WSMsgType.BINARY:
                return message.data
            return message.type, socket.close_code

        yield read


def read_all(publisher: Publisher, query: str, count: int) -> list[Any]:
    async def work() -> list[Any]:
        async with jetstream(publisher, query) as read:
            return [await read() for _ in range(count)]

    found: list[Any] = run(work())
    return found


@pytest.fixture
def told(publisher: Publisher) -> Author:
    """Return an account whose create, update, delete, like, identity and status are
    logged, in this order and nothing after it."""
    author = publish(publisher, ["first"])
    with publisher.crawl():
        wait_for_stream(publisher.host)
        before = publisher.bounds().newest
        publisher.write(author, "note")
        publisher.host.post(author, ("update", f"{POST}/note", post("changed")))
        publisher.host.post(author, ("delete", f"{POST}/note", None))
        publisher.write(author, "heart", LIKE)
        publisher.host.send(lambda seq: account_frame(author.did, seq, True, None))
        wait_until(lambda: publisher.bounds().newest >= before + 5, PATIENCE)
    publisher.world.execute("DELETE FROM event_block WHERE last_seq <= %s", before)
    return author


def test_jetstream_messages_have_the_documented_shape(
    publisher: Publisher, told: Author
) -> None:
    create, update, delete, like, account = read_all(publisher, "cursor=1", 5)
    times = [event["time_us"] for event in (create, update, delete, like, account)]
    assert times == sorted(set(times))
    assert all(type(at) is int and at > 1_700_000_000_000_000 for at in times)
    assert set(create) == {"did", "time_us", "kind", "commit"}
    assert create["did"] == told.did
    assert create["kind"] == "commit"
    assert set(create["commit"]) == {
        "rev", "operation", "collection", "rkey", "record", "cid",
    }  # fmt: skip
    assert is_tid(create["commit"]["rev"])
    assert create["commit"]["operation"] == "create"
    assert create["commit"]["collection"] == POST
    assert create["commit"]["rkey"] == "note"
    assert create["commit"]["record"]["text"] == "note"
    assert update["commit"]["operation"] == "update"
    assert update["commit"]["record"]["text"] == "changed"
    assert set(delete["commit"]) == {"rev", "operation", "collection", "rkey"}
    assert delete["commit"]["operation"] == "delete"
    raw = told.records[f"{LIKE}/heart"]
    assert like["commit"]["cid"] == cid_to_text(cid_for(raw))
    assert account["kind"] == "account"
    assert set(account) == {"did", "time_us", "kind", "account"}
    assert set(account["account"]) == {"active", "did", "seq", "time"}
    assert account["account"]["active"] is True
    # A cursor counts itself in.
    assert read_all(publisher, f"cursor={times[2]}", 1) == [delete]
    assert read_all(publisher, f"cursor={times[2] + 1}", 1) == [like]


FILTERS: list[tuple[str, list[str | None]]] = [
    (f"wantedCollections={POST}", ["create", "update", "delete", None]),
    (f"wantedCollections={LIKE}", ["create", None]),
    ("wantedCollections=app.bsky.feed.*", ["create", "update", "delete", "create"]),
    ("wantedCollections=app.bsky.graph.*", [None]),
    (f"wantedCollections=app.bsky.graph.*&wantedCollections={LIKE}", ["create"]),
    ("maxMessageSizeBytes=250", ["delete", None]),
    ("wantedDids={did}", ["create", "update"]),
]
REFUSED = [
    "wantedCollections=app.bsky.feed.li*",
    "wantedCollections=*",
    "wantedDids=alice.test",
    "cursor=yesterday",
    "&".join(f"wantedCollections=a.b.c{n}" for n in range(101)),
]


def test_jetstream_filters_collections_and_dids(
    publisher: Publisher, told: Author
) -> None:
    for query, operations in FILTERS:
        wanted = query.format(did=told.did)
        found = read_all(publisher, f"cursor=1&{wanted}", len(operations))
        got = [event.get("commit", {}).get("operation") for event in found]
        assert got == operations, query
    for query in REFUSED:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            read_all(publisher, query, 1)
        assert caught.value.status == 400, query


def test_jetstream_waits_for_hello_and_accepts_new_options(
    publisher: Publisher, told: Author
) -> None:
    def update(**payload: Any) -> dict[str, Any]:
        return {"type": "options_update", "payload": payload}

    async def work() -> None:
        async with jetstream(publisher, "cursor=1&requireHello=true") as read:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read({"type": "something else"}), 0.5)
        async with jetstream(publisher, "cursor=1&requireHello=true") as read:
            found = await read(update(wantedCollections=[LIKE]))
            assert found["commit"]["collection"] == LIKE
        async with jetstream(publisher, "cursor=1") as read:
            kind, code = await read_end(read, update(wantedCollections="no list"))
            assert (kind, code) == (aiohttp.WSMsgType.CLOSE, 1003)

    async def read_end(read: Any, message: Any) -> Any:
        found = await read(message)
        while isinstance(found, dict):
            found = await read()
        return found

    run(work())


def test_jetstream_compression_is_plain_zstd(
    publisher: Publisher, told: Author
) -> None:
    samples = [b'{"did":"did:plc:%d","kind":"commit"}' % n for n in range(2_000)]
    dictionary = zstandard.train_dictionary(1_000, samples)

    async def work() -> None:
        for query, headers in (
            ("compress=true", {}),
            ("", {"Socket-Encoding": "zstd"}),
        ):
            async with jetstream(publisher, f"cursor=1&{query}", **headers) as read:
                data = await read()
        plain = zstandard.ZstdDecompressor().decompress(data)
        official = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(data)
        assert plain == official
        assert json.loads(plain)["commit"]["rkey"] == "note"

    run(work())


def test_hidden_accounts_are_not_rebroadcast(
    publisher: Publisher, told: Author
) -> None:
    publisher.world.execute("UPDATE actor SET upstream_status = 'deactivated'")
    (found,) = read_all(publisher, "cursor=1", 1)
    assert found["kind"] == "account"
    url = f"{publisher.socket}/xrpc/{routes.SUBSCRIBE_REPOS}"
    assert [frame.t for frame in run(read_frames(url, 0, 1))] == ["#account"]


def test_streams_without_a_log_are_refused(index_db: str, tmp_path: Path) -> None:
    config = Config.read(home=tmp_path, dev_network=True)
    with serving_in_thread(create_app(config, index_db)) as url:
        for path in ("subscribe", f"xrpc/{routes.SUBSCRIBE_REPOS}"):

            async def work(path: str = path) -> None:
                async with aiohttp.ClientSession() as session:
                    await session.ws_connect(f"{url}/{path}")

            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                run(work())
            assert caught.value.status == 503
