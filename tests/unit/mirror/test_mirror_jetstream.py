"""The Jetstream server on a source in memory."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from mirror.jetstream import PATH, Jetstream
from mirror.jetstream_events import EventMessages, Message, Record
from mirror.jetstream_options import BadOptionsError, Options, read_query, read_update
from mirror.outgoing_events import OutgoingEvent
from network.server.listener import serving
from protocol.data import cbor
from protocol.data.cid import Cid, cid_for, cid_to_text, raw_cid_for
from protocol.events.frames import encode_frame
from protocol.repo.car import car_block, car_header
from storage.records.event_log import LoggedEvent

POST, LIKE = "app.bsky.feed.post", "app.bsky.feed.like"
DID = "did:plc:" + "a" * 24


Served = tuple[Jetstream, str, aiohttp.ClientSession]


async def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


class Large:
    """An event with one message."""

    did = DID

    def __init__(self, seq: int, size: int) -> None:
        self.seq = seq
        self.messages = [Message(POST, {"time_us": seq, "seq": seq, "pad": "x" * size})]
        self._size = size

    def __len__(self) -> int:
        return self._size


class Source:
    def __init__(self, count: int, size: int) -> None:
        self.size = size
        self.last = count

    async def tail(self) -> int:
        return self.last

    async def oldest(self) -> int:
        return 1

    async def seq_at(self, time_us: int) -> int:
        return time_us

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, Large]]:
        end = min(self.last, seq + limit)
        return [(n, Large(n, self.size)) for n in range(seq + 1, end + 1)]


class SlowTail(Source):
    async def tail(self) -> int:
        await asyncio.sleep(0.2)
        return self.last


@asynccontextmanager
async def served(source: Any, **options: Any) -> AsyncIterator[Served]:
    """Serve a source; gives the server, its URL and a client."""
    server = Jetstream(source, **{"poll": 0.02, **options})
    app = Starlette(routes=[WebSocketRoute(PATH, server.__call__)])
    async with serving(app) as url, aiohttp.ClientSession() as session:
        yield server, f"{url}{PATH}", session


async def test_jetstream_sends_events_committed_after_connecting() -> None:
    source = SlowTail(7, 10)
    async with served(source) as (_, url, session), session.ws_connect(url) as socket:
        source.last += 1
        found = await asyncio.wait_for(socket.receive_json(), 30)
        assert found["seq"] == 8


@pytest.mark.parametrize("text", ["\x01" * 90_000, "a" * 90_000 + "\U0001f600"])
def test_jetstream_keeps_records_in_about_their_size(text: str) -> None:
    value = cbor.encode({"$type": POST, "text": text})
    record = Record(value)
    tracemalloc.start()
    try:
        for _ in range(2):
            assert json.loads(record.text)["text"] == text
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * len(value)


async def test_jetstream_cuts_off_a_reader_that_stops_alone() -> None:
    source = Source(3_000, 20_000)
    async with served(source, send_timeout=0.5) as (server, url, session):
        host = url.removeprefix("http://").removesuffix(PATH)
        reader, writer = await asyncio.open_connection(*host.split(":"), limit=1_000)
        writer.write(
            f"GET {PATH}?cursor=0 HTTP/1.1\r\nHost: {host}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        async with session.ws_connect(f"{url}?cursor=3000") as good:
            for _ in range(5):
                source.last += 1
                found = await asyncio.wait_for(good.receive_json(), 30)
                assert found["seq"] == source.last
            await until(lambda: server.subscribers <= 1)
            source.last += 1
            found = await asyncio.wait_for(good.receive_json(), 30)
            assert found["seq"] == source.last
        writer.close()
        del reader


async def test_jetstream_closes_a_live_reader_that_falls_behind() -> None:
    source = Source(1, 100_000)
    options = {"poll": 0.01, "ring_events": 5, "send_timeout": 60.0}
    async with (
        served(source, **options) as (server, url, session),
        session.ws_connect(url) as socket,
    ):
        await until(lambda: server.subscribers == 1)
        await asyncio.sleep(0.2)
        for _ in range(300):
            source.last += 1
            await asyncio.sleep(0.002)
        async with asyncio.timeout(60):
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert (message.data, message.extra) == (1008, "ConsumerTooSlow")


class Commit:
    """An event with three messages."""

    did = DID

    def __init__(self, seq: int) -> None:
        times = range(10 * seq, 10 * seq + 3)
        self.messages = [Message(POST, {"time_us": time}) for time in times]

    def __len__(self) -> int:
        return 9


class Commits(Source):
    async def seq_at(self, time_us: int) -> int:
        return min(time_us // 10 - 1, self.last)

    async def events_after(self, seq: int, limit: int) -> Any:
        end = min(self.last, seq + limit)
        return [(n, Commit(n)) for n in range(seq + 1, end + 1)]


async def test_jetstream_cursor_may_be_inside_a_commit() -> None:
    source = Commits(9, 0)
    async with served(source) as (server, url, session):
        for cursor in (50, 51, 52):
            async with session.ws_connect(f"{url}?cursor={cursor}") as socket:
                found = [(await socket.receive_json())["time_us"] for _ in "123"]
                expected = [50, 51, 52, 60, 61, 62][cursor - 50 :]
                assert found == expected[:3]
        # In the future, in nanoseconds: the stream begins with the next event.
        for cursor in (10**18, 10**18 * 9):
            async with session.ws_connect(f"{url}?cursor={cursor}") as socket:
                await until(lambda: server.subscribers == 1)
                await asyncio.sleep(0.2)
                await socket.send_bytes(b"this means nothing")
                source.last += 1
                found = (await socket.receive_json())["time_us"]
                assert found == source.last * 10
            await until(lambda: server.subscribers == 0)


@pytest.mark.parametrize(
    ("wanted", "collection", "yes"),
    [
        ([], POST, True),
        ([POST], POST, True),
        ([POST], LIKE, False),
        ([POST], f"{POST}x", False),
        (["app.bsky.feed.*"], LIKE, True),
        (["app.bsky.feed.*"], "app.bsky.feedx.post", False),
        (["app.bsky.*"], LIKE, True),
        ([LIKE, "com.example.*"], "com.example.blog.entry", True),
        (["com.*"], "com.example.blog.entry", True),
        (["com.*"], "community.lexicon.event", False),
        ([POST], None, True),
    ],
)
def test_jetstream_options_filter_collections(
    wanted: list[str], collection: str | None, yes: bool
) -> None:
    options = read_query([("wantedCollections", name) for name in wanted])
    assert options.wants_collection(collection) is yes
    update = {"wantedCollections": wanted}
    text = str({"type": "options_update", "payload": update}).replace("'", '"')
    assert read_update(text) == options


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        '{"type":"options_update"}',
        '{"type":"options_update","payload":{"wantedDids":["alice.test"]}}',
        '{"type":"options_update","payload":{"wantedDids":[5]}}',
        '{"type":"options_update","payload":{"maxMessageSizeBytes":"1"}}',
    ],
)
def test_jetstream_updates_that_are_malformed(text: str) -> None:
    with pytest.raises(BadOptionsError):
        read_update(text)


def test_jetstream_update_replaces_all_options() -> None:
    assert read_update('{"type":"hello"}') is None
    assert read_update(b'{"type":"options_update","payload":{}}') == Options()


def test_jetstream_limits_ignore_duplicates() -> None:
    dids = [("wantedDids", f"did:plc:{n:024}") for n in range(10_001)]
    assert len(read_query([*dids[:-1], *dids[:-1]]).dids) == 10_000
    with pytest.raises(BadOptionsError):
        read_query(dids)
    names = [("wantedCollections", f"a.b.c{n}") for n in range(100)]
    assert len(read_query([*names, *names]).collections) == 100
    with pytest.raises(BadOptionsError):
        read_query([*names, ("wantedCollections", "com.*")])


@pytest.mark.parametrize("text", ["", "-5", "big", "0", "9" * 40])
def test_jetstream_malformed_size_is_no_limit(text: str) -> None:
    assert read_query([("maxMessageSizeBytes", text)]).max_bytes == 0


@pytest.mark.parametrize(
    ("t", "fields", "sent"),
    [
        ("#identity", {"time": b"x", "handle": "a.test"}, {"handle": "a.test"}),
        ("#identity", {"time": "now", "handle": [b"x"]}, {"time": "now"}),
        ("#identity", {"time": True, "handle": False}, {}),
        ("#account", {"active": False, "status": True}, {"active": False}),
        ("#account", {"active": True, "time": {"a": b"x"}}, {"active": True}),
    ],
)
def test_jetstream_survives_fields_of_any_type(
    t: str, fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    frame = encode_frame(t, {"seq": 5, "did": DID, **fields})
    logged = LoggedEvent(7, 1, frame)
    event = EventMessages(OutgoingEvent(logged, DID, t))
    (message,) = event.messages
    assert json.loads(message.data)[t[1:]] == {"did": DID, "seq": 7, **sent}


def test_jetstream_leaves_dropped_records_out() -> None:
    good = cbor.encode({"$type": POST, "text": "good"})
    values = {
        "good": (cid_for(good), good),
        "blob": (raw_cid_for(good), good),
        "absent": (cid_for(b"nowhere"), None),
    }
    for name, raw in (
        ("list", b"\x82\x01\x02"),
        ("cut", b"\xa1aa"),
        ("loose", b"\xa1aa\x18\x01"),
        ("deep", b"\xa1aa" * 40 + b"\x01"),
        ("large", b"\xa1aaZ\x00\x0f\x42\x40" + bytes(1_000_000)),
    ):
        values[name] = cid_for(raw), raw
    root = cid_for(b"")
    car = car_header(root) + car_block(root, b"")
    car += b"".join(car_block(c, raw) for c, raw in values.values() if raw is not None)
    ops: list[cbor.Value] = [
        {"action": "create", "path": f"{POST}/{name}", "cid": Cid(cid)}
        for name, (cid, _) in values.items()
    ]
    ops.append({"action": "create", "path": "no path", "cid": Cid(cid_for(good))})
    ops.append({"action": "delete", "path": f"{POST}/gone", "cid": None})
    body: dict[str, cbor.Value] = {"repo": DID, "rev": "r", "blocks": car, "ops": ops}
    frame = encode_frame("#commit", body)
    event = EventMessages(OutgoingEvent(LoggedEvent(7, 1, frame), DID, "#commit"))
    texts = [message.data for message in event.messages]
    sent = [json.loads(text)["commit"] for text in texts if text]
    assert [(one["operation"], one["rkey"]) for one in sent] == [
        ("create", "good"),
        ("delete", "gone"),
    ]


def test_jetstream_reads_a_shared_record_once() -> None:
    heavy = cbor.encode({"$type": POST, "x": [{} for _ in range(20_000)]})
    cid, root = cid_for(heavy), cid_for(b"")
    car = car_header(root) + car_block(root, b"") + car_block(cid, heavy)
    ops: list[cbor.Value] = [
        {"action": "create", "path": f"{POST}/k{n}", "cid": Cid(cid)}
        for n in range(200)
    ]
    junk: cbor.Value = [{} for _ in range(60_000)]
    body: dict[str, cbor.Value] = {
        "repo": DID, "rev": "r", "blocks": car, "ops": ops, "more": junk,
    }  # fmt: skip
    frame = encode_frame("#commit", body)
    tracemalloc.start()
    try:
        event = EventMessages(OutgoingEvent(LoggedEvent(7, 1, frame), DID, "#commit"))
        for message in event.messages:
            sent = message.data
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    times = [json.loads(message.data)["time_us"] for message in event.messages[:3]]
    assert times == [1, 2, 3]
    commit = json.loads(sent)["commit"]
    assert (commit["rkey"], len(commit["record"]["x"])) == ("k199", 20_000)
    assert commit["cid"] == cid_to_text(cid)
    assert kept < 1_000_000
    assert peak < 20_000_000


def test_jetstream_skips_an_unreadable_event() -> None:
    for frame in (b"", encode_frame("#commit", {"repo": DID, "ops": 5})):
        event = EventMessages(OutgoingEvent(LoggedEvent(7, 1, frame), DID, "#commit"))
        assert list(event.messages) == list(event.messages) == []
