from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import aiohttp
import psycopg
import pytest

from network.server.listener import serving_in_thread
from network.server.outage import BUSY
from plc import stream
from plc.directory import MAX_BODY_BYTES, create_app
from plc.ledger import accept
from plc.operation import (
    DAY_MS,
    LegacyCreate,
    Operation,
    Tombstone,
    create_genesis,
    create_tombstone,
    create_update,
    did_for_genesis,
    format_time,
    operation_cid,
    operation_json,
    sign_operation,
    verify_audit_log,
)
from plc.stream import Bell, ExportStream
from plc.submission_limits import SubmissionLimits
from protocol.identity.did_document import parse_did_document
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did
from storage.postgres.pool import Pool

OWNER = PrivateKey.from_bytes("k256", b"\x41" * 32)
SERVER = PrivateKey.from_bytes("k256", b"\x42" * 32)
NOW = 1_790_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Directory:
    """A running directory and what a client may ask of it."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self.clock = clock

    def get(self, path: str, data: bytes | None = None, **headers: str) -> Answer:
        request = Request(self.url + path, data=data, headers=headers)
        try:
            with urlopen(request, timeout=10) as response:
                return Answer(response.status, response.read(), dict(response.headers))
        except HTTPError as error:
            with error:
                return Answer(error.code, error.read(), dict(error.headers))

    def post(self, did: str, operation: Operation | Tombstone | LegacyCreate) -> Answer:
        return self.get(f"/{did}", json.dumps(operation_json(operation)).encode())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(plc_pool: Pool, clock: Clock) -> Iterator[Directory]:
    # Too rarely polled to help: what this process takes in must come at once.
    app = create_app(plc_pool, now_ms=clock, version="1.2", poll_s=60)
    with serving_in_thread(app) as url:
        yield Directory(url, clock)


def genesis(name: str = "alice.test") -> tuple[Did, Operation]:
    return create_genesis(
        signing_key=SERVER.public.did_key,
        rotation_keys=[OWNER.public.did_key, SERVER.public.did_key],
        handle=name,
        pds_url="https://pds.example.com",
        signer=SERVER,
    )


def test_an_account_from_birth_to_rescue(directory: Directory) -> None:
    did, first = genesis()
    assert directory.get(f"/{did}").status == 404
    assert directory.post(did, first).status == 200
    answer = directory.get(f"/{did}")
    assert answer.headers["content-type"].startswith("application/did+ld+json")
    document = parse_did_document(answer.json, did)
    assert document.handles == ("alice.test",)
    assert document.pds == "https://pds.example.com"
    assert directory.get(f"/{did}/data").json["rotationKeys"] == list(
        first.rotation_keys
    )

    directory.clock.now_ms += 1
    grave = create_tombstone(first, SERVER)
    assert directory.post(did, grave).status == 200
    for path in ("", "/data"):
        answer = directory.get(f"/{did}{path}")
        assert (answer.status, answer.json) == (
            404,
            {"message": f"DID not available: {did}"},
        )
    assert directory.get(f"/{did}/log/last").json == operation_json(grave)

    directory.clock.now_ms += 1
    rescue = create_update(first, OWNER, handle="bob.test")
    assert directory.post(did, rescue).status == 200
    assert directory.get(f"/{did}").json["alsoKnownAs"] == ["at://bob.test"]
    assert directory.get(f"/{did}/log").json == [
        operation_json(first),
        operation_json(rescue),
    ]
    entries = directory.get(f"/{did}/log/audit").json
    assert [e["nullified"] for e in entries] == [False, True, False]
    assert [e["createdAt"] for e in entries] == [format_time(NOW + n) for n in range(3)]
    assert verify_audit_log(did, entries).current.operation == rescue


def test_refusals(directory: Directory) -> None:
    did, first = genesis()
    other, _ = genesis("other.test")
    old = sign_operation(
        LegacyCreate(SERVER.public.did_key, OWNER.public.did_key, "o.test", "o.test"),
        SERVER,
    )
    tampered = operation_json(first) | {"alsoKnownAs": ["at://evil.test"]}
    good = json.dumps(operation_json(first)).encode()
    cases: list[tuple[str, bytes, int]] = [
        (did, b"", 400),
        (did, b"{}", 400),
        (did, b"[]", 400),
        (did, good[:-1], 400),
        (did, good[:-1] + b', "prev": null}', 400),
        (did, b"[" * 5_000, 400),
        (did, json.dumps(tampered).encode(), 400),
        (other, good, 400),
        ("did:web:alice.test", good, 400),
        ("x", good, 400),
        (did_for_genesis(old), json.dumps(operation_json(old)).encode(), 400),
        (did, good + b" " * MAX_BODY_BYTES, 413),
    ]
    for path, body, status in cases:
        answer = directory.get(f"/{path}", body)
        assert (answer.status, set(answer.json)) == (status, {"message"}), path
    assert directory.get("/export?after=0").body == b""
    assert directory.get(f"/{did}", good + b" " * 100).status == 200


ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**53, 2**64, "", "\0", "a\0b", "\u202e", "x" * 20_000),
    *(
        [],
        [1],
        [[]],
        [None],
        ["\0"],
        ["x"] * 500,
        {},
        {"a": 1},
        {"\0": "\0"},
        {"a": {}},
    ),
    *([{"$link": 5}], {"a": {"type": 1, "endpoint": "x"}}, {"a": {"type": "\0"}}),
    {"a": {"type": "\0", "endpoint": "\0"}},
]


@pytest.mark.parametrize("field", [*operation_json(genesis()[1]), "unknown"])
def test_odd_field_of_an_operation_is_no_server_error(
    directory: Directory, field: str
) -> None:
    did, first = genesis()
    for value in ODD_VALUES:
        body = json.dumps(operation_json(first) | {field: value}).encode()
        answer = directory.get(f"/{did}", body)
        assert answer.status in (200, 400, 409, 413), (value, answer.body)
    for raw in (b"1e400", b"NaN", b'"\\ud800"', b"1" * 5000, b"[" * 900 + b"]" * 900):
        body = b'{"%s": %s}' % (field.encode(), raw)
        assert directory.get(f"/{did}", body).status == 400, raw[:20]


@pytest.mark.parametrize("text", ["a\0b", "\u202e", "\U0001f600", "at://" + "x" * 200])
def test_signed_operation_with_odd_text_is_served_or_refused(
    directory: Directory, text: str
) -> None:
    operation = sign_operation(replace(genesis()[1], also_known_as=(text,)), SERVER)
    did = did_for_genesis(operation)
    answer = directory.post(did, operation)
    assert answer.status in (200, 400), answer.body
    for path in ("", "/data", "/log", "/log/audit", "/log/last"):
        assert directory.get(f"/{did}{path}").status in (200, 404)
    assert directory.get("/export").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/did:plc:%00",
        "/did:plc:" + "a" * 24 + "%00/log",
        "/%FF",
        "/" + "a" * 9_000,
        "/export?count=%00",
        "/export?after=%00",
        "/export?after=" + "9" * 400,
        "/export?after=%FF",
        "/export?after=99999-99-99T99:99:99Z",
        "/export?count=-1",
        "/export?count=%D9%A3",
    ],
)
def test_odd_path_or_parameter_is_no_server_error(
    directory: Directory, path: str
) -> None:
    answer = directory.get(path)
    assert answer.status < 500
    if answer.status >= 400:
        assert set(answer.json) == {"message"}


@pytest.mark.parametrize("name", ["after", "count"])
def test_empty_parameter_of_the_export_is_absent(
    directory: Directory, name: str
) -> None:
    directory.post(*genesis())
    assert directory.get(f"/export?{name}=").body == directory.get("/export").body


def test_a_lost_race_and_a_full_quota_can_be_told(directory: Directory) -> None:
    did, first = genesis()
    directory.post(did, first)
    directory.post(did, create_update(first, SERVER, handle="a.test"))
    # Twice the same state to build on: by the same key, and by an unknown one.
    lost = directory.post(did, create_update(first, SERVER, handle="b.test"))
    assert lost.status == 409
    last = create_update(first, SERVER, handle="a.test")
    for _ in range(8):
        last = create_update(last, SERVER)
        assert directory.post(did, last).status == 200
    full = directory.post(did, create_update(last, SERVER))
    assert full.status == 429
    assert full.headers["retry-after"] == "3600"
    directory.clock.now_ms += DAY_MS
    assert directory.post(did, create_update(last, SERVER)).status == 200


def test_submissions_have_a_limit_for_each_address(
    plc_pool: Pool, clock: Clock
) -> None:
    limits = SubmissionLimits(new_dids=3, operations=6, bypass_key="secret")
    with serving_in_thread(create_app(plc_pool, now_ms=clock, limits=limits)) as url:

        def submit(
            entry: tuple[Did, Operation], address: str = "192.0.2.1", **more: str
        ) -> Answer:
            body = json.dumps(operation_json(entry[1])).encode()
            headers = {"X-Forwarded-For": address} | more
            return Directory(url, clock).get(f"/{entry[0]}", body, **headers)

        accounts = [genesis(f"n{n}.test") for n in range(12)]
        assert [submit(entry).status for entry in accounts[:3]] == [200] * 3
        refused = submit(accounts[3])
        assert (refused.status, set(refused.json)) == (429, {"message"})
        assert 0 < int(refused.headers["retry-after"]) <= 300
        assert refused.headers["ratelimit-limit"] == "3"
        # A handle is changed all the same, until that is too much.
        did, last = accounts[0]
        for _ in range(2):
            last = create_update(last, SERVER)
            assert submit((did, last)).status == 200
        assert submit((did, create_update(last, SERVER))).status == 429
        assert submit(accounts[4], "192.0.2.2").status == 200
        key = {"X-RateLimit-Bypass": "secret"}
        assert [submit(e, **key).status for e in accounts[5:10]] == [200] * 5
        assert submit(accounts[10], **{"X-RateLimit-Bypass": "guess"}).status == 429


def test_errors_are_json(directory: Directory) -> None:
    unknown = "/did:plc:" + "a" * 24
    cases = {
        unknown: 404,
        unknown + "/log": 404,
        unknown + "/log/audit": 404,
        unknown + "/log/last": 404,
        unknown + "/data": 404,
        "/did:web:alice.test": 404,
        "/favicon.ico": 404,
        "/a/b/c/d": 404,
        "/%00": 404,
        "/export?count=0": 400,
        "/export?count=x": 400,
        "/export?after=-1": 400,
        "/export?after=yesterday": 400,
        "/export/stream": 426,
    }
    answers = {path: directory.get(path) for path in cases}
    assert {path: answer.status for path, answer in answers.items()} == cases
    assert all(set(answer.json) == {"message"} for answer in answers.values())


def test_health_and_cors(directory: Directory) -> None:
    answer = directory.get("/_health", Origin="https://app.example.com")
    assert answer.json == {"version": "1.2"}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert directory.get("/").status == 200


def test_export(directory: Directory) -> None:
    accounts = [genesis(f"n{n}.test") for n in range(5)]
    for did, first in accounts:
        directory.post(did, first)
        directory.clock.now_ms += 10
    answer = directory.get("/export?after=0&count=2")
    assert answer.headers["content-type"].startswith("application/jsonlines")
    (one, two) = answer.lines
    assert one == {
        "type": "sequenced_op",
        "seq": one["seq"],
        "did": accounts[0][0],
        "operation": operation_json(accounts[0][1]),
        "cid": operation_cid(accounts[0][1]),
        "createdAt": format_time(NOW),
    }
    rest = directory.get(f"/export?after={two['seq']}&count=99999").lines
    assert [line["did"] for line in rest] == [did for did, _ in accounts[2:]]

    by_time = directory.get("/export?count=2").lines
    assert [line["did"] for line in by_time] == [did for did, _ in accounts[:2]]
    assert by_time[0].keys() == {"did", "operation", "cid", "nullified", "createdAt"}
    after = by_time[1]["createdAt"]
    rest = directory.get(f"/export?after={after}").lines
    assert [line["did"] for line in rest] == [did for did, _ in accounts[2:]]


async def listen(
    directory: Directory,
    query: str,
    count: int,
    meanwhile: Callable[[], object] | None = None,
) -> tuple[list[Any], str | None]:
    """Up to `count` messages of the stream, and the reason if it was closed.

    `meanwhile` is run once the stream is open.
    """
    messages: list[Any] = []
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{directory.url}/export/stream{query}") as socket,
    ):
        if meanwhile is not None:
            await asyncio.to_thread(meanwhile)
        while len(messages) < count:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return messages, message.extra
            messages.append(json.loads(message.data))
    return messages, None


def test_stream_catches_up_and_goes_on(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE", 2)
    accounts = [genesis(f"n{n}.test") for n in range(8)]
    for did, first in accounts[:5]:
        directory.post(did, first)
    exported = directory.get("/export?after=0").lines

    def post_the_rest() -> None:
        for did, first in accounts[5:]:
            directory.post(did, first)

    messages, _ = asyncio.run(listen(directory, "?cursor=0", 8, post_the_rest))
    assert messages[:5] == exported
    assert messages == directory.get("/export?after=0").lines
    later, _ = asyncio.run(listen(directory, f"?cursor={exported[3]['seq']}", 4))
    assert later == messages[4:]


def test_stream_without_a_cursor_begins_now(directory: Directory) -> None:
    directory.post(*genesis())
    new = genesis("new.test")
    messages, _ = asyncio.run(listen(directory, "", 1, lambda: directory.post(*new)))
    assert [message["did"] for message in messages] == [new[0]]


def test_stream_sees_what_another_process_took_in(
    plc_pool: Pool, plc_url: str, clock: Clock
) -> None:
    did, first = genesis()

    def elsewhere() -> None:
        with psycopg.connect(plc_url) as conn:
            accept(conn, did, first, NOW)

    app = create_app(plc_pool, now_ms=clock, poll_s=0.05)
    with serving_in_thread(app) as url:
        messages, _ = asyncio.run(
            listen(Directory(url, clock), "?cursor=0", 1, elsewhere)
        )
    assert messages[0]["did"] == did


def test_one_client_has_eight_streams(directory: Directory) -> None:
    async def work() -> None:
        url = f"{directory.url}/export/stream"
        async with aiohttp.ClientSession() as session, AsyncExitStack() as held:
            for _ in range(8):
                await held.enter_async_context(session.ws_connect(url))
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(url)
            assert caught.value.status == 429
            other = {"X-Forwarded-For": "203.0.113.9"}
            await held.enter_async_context(session.ws_connect(url, headers=other))

    asyncio.run(work())


def test_stream_refuses_cursors(directory: Directory) -> None:
    directory.post(*genesis())
    newest = directory.get("/export?after=0").lines[-1]["seq"]
    _, reason = asyncio.run(listen(directory, f"?cursor={newest + 1}", 1))
    assert reason == "FutureCursor"
    directory.clock.now_ms += 7 * DAY_MS
    assert asyncio.run(listen(directory, f"?cursor={newest - 1}", 1))[1] is None
    directory.clock.now_ms += 1
    _, reason = asyncio.run(listen(directory, f"?cursor={newest - 1}", 1))
    assert reason == "OutdatedCursor"
    for cursor in ("x", "-1", "1.5", "9" * 30):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            asyncio.run(listen(directory, f"?cursor={cursor}", 1))
        assert caught.value.status == 400


def test_streams_are_counted(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    directory.post(*genesis())

    async def play() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{directory.url}/export/stream"),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await listen(directory, "", 1)
            assert caught.value.status == 503
        # The place is free again once the first reader has left.
        async with asyncio.timeout(5):
            while True:
                try:
                    messages, _ = await listen(directory, "?cursor=0", 1)
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.02)
                    continue
                assert len(messages) == 1
                return

    asyncio.run(play())


class StuckSocket:
    """A reader that takes a few messages, then nothing more, and never leaves."""

    def __init__(self, takes: int, closes: bool) -> None:
        self.query_params = {"cursor": "0"}
        self.scope: dict[str, Any] = {}
        self.takes = takes
        self.closes = closes
        self.sent = 0
        self.closed: tuple[int, str] | None = None

    async def accept(self) -> None:
        pass

    async def receive(self) -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send_text(self, text: str) -> None:
        if self.sent == self.takes:
            await asyncio.Event().wait()
        self.sent += 1

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)
        if not self.closes:
            await asyncio.Event().wait()


@pytest.mark.parametrize("closes", [True, False])
def test_a_reader_that_does_not_read_is_cut_off(plc_pool: Pool, closes: bool) -> None:
    for number in range(4):
        with plc_pool.connection() as conn:
            accept(conn, *genesis(f"n{number}.test"), NOW)
    socket: Any = StuckSocket(takes=2, closes=closes)

    async def play() -> None:
        export = ExportStream(plc_pool, Bell(), Clock(), send_timeout_s=0.1)
        async with asyncio.timeout(5):
            await export.serve(socket)

    asyncio.run(play())
    assert socket.sent == 2
    assert socket.closed == (1000, "ConsumerTooSlow")


def test_a_database_that_is_away_is_503(plc_pool: Pool, directory: Directory) -> None:
    did, first = genesis()
    directory.post(did, first)
    plc_pool.timeout = 0.2
    held = [plc_pool.getconn() for _ in range(plc_pool.max_size)]
    try:
        for answer in (
            directory.get("/_health"),
            directory.get(f"/{did}"),
            directory.post(did, create_update(first, SERVER)),
        ):
            assert answer.status == 503
            assert answer.json == {"message": BUSY}
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            asyncio.run(listen(directory, "", 1))
        assert caught.value.status == 503
    finally:
        for conn in held:
            plc_pool.putconn(conn)
    assert directory.get("/_health").status == 200
