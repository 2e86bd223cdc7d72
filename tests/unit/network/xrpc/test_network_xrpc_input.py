"""Parameters and bodies of XRPC requests."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from xrpc_calls import (
    CATALOG,
    CREATE,
    CREATE_ACCOUNT,
    DELETE,
    DID,
    POSTS,
    REQUEST_CRAWL,
    SEARCH,
    UPLOAD,
    ask,
    calling,
    error_of,
)

from network.server.listener import serving
from network.xrpc import request_body, request_input
from network.xrpc.server import Auth, Call, XrpcServer
from protocol.data import json_form
from protocol.data.cid import Cid, cid_for
from protocol.errors import InvalidRecordError
from protocol.lexicon.methods import EMPTY_IS_ABSENT

CHUNK = b"2710\r\n" + bytes(10_000) + b"\r\n"


def test_parameters_are_typed_and_defaults_filled_in() -> None:
    calls: list[Call] = []

    def handler(call: Call) -> Any:
        calls.append(call)
        return {"posts": []}

    (fetched,) = ask(
        SEARCH, handler, f"/xrpc/{SEARCH}?q=a%20b%C3%A9&limit=7&tag=x&tag=y&other=1"
    )
    assert (fetched.status, fetched.json()) == (200, {"posts": []})
    assert calls[0].params == {
        "q": "a bé",
        "limit": 7,
        "tag": ["x", "y"],
        "sort": "latest",
    }
    assert calls[0].input is None
    assert calls[0].auth is None


BAD_QUERIES = [
    "",
    "?limit=5",
    "?q=a&limit=0",
    "?q=a&limit=101",
    "?q=a&limit=x",
    "?q=a&limit=%EF%BC%95",
    "?q=a&limit=1e3",
    "?q=a&limit=99999999999999999999",
    "?q=a&author=not%20an%20actor",
    "?q=a&q=b",
    "?q=%FF",
    "?q=a&" + "&".join(["x=1"] * 1_001),
]


def test_bad_parameters_are_refused() -> None:
    fetched = ask(
        SEARCH,
        lambda call: pytest.fail("called"),
        *(f"/xrpc/{SEARCH}{query}" for query in BAD_QUERIES),
    )
    for query, answer in zip(BAD_QUERIES, fetched, strict=True):
        assert error_of(answer) == (400, "InvalidRequest"), query


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("q=a&limit=1%00", "parameters: limit: has a NUL character"),
        ("q=%ff", "parameters: q: is not UTF-8"),
        ("q=%ed%a0%80", "parameters: q: is not UTF-8"),
        ("q=a&l%C3%A9=%ff", "parameters: l\u00e9: is not UTF-8"),
        ("q=" + "a" * 20_000, "parameters: q: is longer than 10000 characters"),
        ("limit=1&q=" + "%20" * 20_000, "parameters: q: is too long"),
        ("&".join(["q=a"] * 1_001), "parameters: are more than 1000"),
    ],
)
async def test_bad_parameter_is_named(query: str, message: str) -> None:
    server = XrpcServer(CATALOG)
    server.add(SEARCH, lambda call: pytest.fail("called"))
    # The guarded client refuses URLs of this length.
    async with serving(server.app()) as url, httpx.AsyncClient() as client:
        got = await client.get(f"{url}/xrpc/{SEARCH}?{query}")
    assert got.status_code == 400
    assert got.json() == {"error": "InvalidRequest", "message": message}


def test_odd_parameters_are_refused_by_name_for_every_method() -> None:
    checked = 0
    for nsid in CATALOG.methods():
        method = CATALOG.method(nsid)
        assert method is not None
        fields = (method.params or {}).get("properties", {})
        for name, schema in fields.items():
            odd = ["a\0b", "\0", "a" * 10_001, "\u00e9" * 20_000]
            if schema["type"] == "integer":
                odd += ["9" * 19, "-" + "9" * 19, "9" * 30, "1e5", "\u0665"]
                odd += [""] if name not in EMPTY_IS_ABSENT else []
            for text in odd:
                with pytest.raises(InvalidRecordError) as caught:
                    method.decode_params([(name, text)])
                assert caught.value.path.partition("[")[0] == name
                checked += 1
    assert checked > 1_000


def test_arrays_are_capped_by_their_lexicon() -> None:
    uris = "&".join([f"uris=at://{DID}/app.bsky.feed.post/a"] * 26)
    (fetched,) = ask(POSTS, lambda call: {"posts": []}, f"/xrpc/{POSTS}?{uris}")
    assert error_of(fetched) == (400, "InvalidRequest")


async def test_json_body_is_checked_for_the_handler() -> None:
    calls: list[Call] = []

    def handler(call: Call) -> Any:
        calls.append(call)
        cid = str(Cid(cid_for(b"x")))
        return {"uri": f"at://{DID}/a.b.c/self", "cid": cid}

    good = {"repo": DID, "collection": "a.b.c", "record": {"$type": "a.b.c"}}
    server = XrpcServer(CATALOG, check_output=True)
    server.add(CREATE, handler, max_bytes=1_000)
    path = f"/xrpc/{CREATE}"
    async with calling(server) as caller:
        assert (await caller.post(path, good)).status == 200
        kind = "application/json; charset=utf-8"
        assert (await caller.post(path, good, kind)).status == 200
        assert calls[1].input == good
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            {},
            {**good, "repo": "no"},
            {**good, "validate": 1},
            b'{"repo":"%s","repo":"b.net"}' % DID.encode(),
            b'{"a":NaN}',
            b"[" * 500,
            b"\xff",
        ):
            fetched = await caller.post(path, body)
            assert error_of(fetched) == (400, "InvalidRequest"), body
        for kind in ("text/plain", "application/cbor", ""):
            fetched = await caller.post(path, good, kind)
            assert error_of(fetched) == (400, "InvalidRequest")
        fetched = await caller.post(path, good, Content_Encoding="gzip")
        assert error_of(fetched) == (415, "InvalidRequest")
        big = {**good, "rkey": "a" * 1_000}
        assert error_of(await caller.post(path, big)) == (413, "PayloadTooLarge")
        assert len(calls) == 2


async def test_body_limit_follows_from_the_lexicon_and_the_login() -> None:
    async def authenticate(request: Request, nsid: str) -> Auth | None:
        return Auth(DID, "test")

    server = XrpcServer(CATALOG, authenticate=authenticate)
    server.add(REQUEST_CRAWL, lambda call: None)
    server.add(CREATE_ACCOUNT, lambda call: None)
    server.add(CREATE, lambda call: {}, "required")
    text = "x" * 8_200
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{REQUEST_CRAWL}", {"hostname": text})
        assert error_of(fetched) == (413, "PayloadTooLarge")
        account = {"handle": "a.net", "plcOp": {"x": text * 8}}
        fetched = await caller.post(f"/xrpc/{CREATE_ACCOUNT}", account)
        assert error_of(fetched) == (413, "PayloadTooLarge")
        record = {"repo": DID, "collection": "a.b.c", "record": {"x": text * 100}}
        assert (await caller.post(f"/xrpc/{CREATE}", record)).status == 200
        record = {"repo": DID, "collection": "a.b.c", "record": [0] * 900_000}
        fetched = await caller.post(f"/xrpc/{CREATE}", record)
        assert error_of(fetched)[0] in (400, 413)


async def test_large_body_is_parsed_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[bool] = []
    loads = json_form.loads

    def note(*given: Any, **options: Any) -> Any:
        threads.append(threading.current_thread() is serving_thread)
        return loads(*given, **options)

    monkeypatch.setattr("network.xrpc.request_input.json_form.loads", note)
    serving_thread = threading.current_thread()
    server = XrpcServer(CATALOG)
    server.add(CREATE, lambda call: {}, max_bytes=100_000)
    async with calling(server) as caller:
        for size in (10, 80_000):
            record = {"repo": DID, "collection": "a.b.c", "record": {"x": "y" * size}}
            assert (await caller.post(f"/xrpc/{CREATE}", record)).status == 200
    assert threads == [True, False]


async def test_method_may_raise_its_body_limit() -> None:
    big = {"repo": DID, "collection": "a.b.c", "record": {"text": "x" * 3_000_000}}
    server = XrpcServer(CATALOG)
    server.add(CREATE, lambda call: {"size": len(call.input["record"]["text"])})
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{CREATE}", big)
        assert error_of(fetched) == (413, "PayloadTooLarge")
    server.add(CREATE, lambda call: len(str(call.input)), max_bytes=4_000_000)
    async with calling(server) as caller:
        assert (await caller.post(f"/xrpc/{CREATE}", big)).status == 200


async def raw_post(
    nsid: str,
    head: str,
    body: bytes = b"",
    handler: Any = lambda call: pytest.fail("called"),
    *,
    streamed: bool = False,
) -> bytes:
    """Return the status line of the response to a raw POST."""
    server = XrpcServer(CATALOG)
    server.add(nsid, handler, max_bytes=100_000, streamed=streamed)
    async with serving(server.app()) as url:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        text = f"POST /xrpc/{nsid} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n"
        writer.write(text.encode() + body)
        line = await asyncio.wait_for(reader.readline(), 10.0)
        writer.close()
    return line


async def test_endless_chunked_body_stops_at_the_cap() -> None:
    head = "Content-Type: image/png\r\nTransfer-Encoding: chunked"
    assert (await raw_post(UPLOAD, head, 12 * CHUNK)).startswith(b"HTTP/1.1 413")


async def test_declared_oversize_body_is_refused_at_once() -> None:
    head = "Content-Length: 100001\r\nContent-Type: application/json"
    assert (await raw_post(CREATE, head)).startswith(b"HTTP/1.1 413")


async def test_slow_body_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def impatient(request: Request, limit: int) -> bytes:
        return await request_body.read_body(request, limit, total=0.2)

    monkeypatch.setattr(request_input, "read_body", impatient)
    head = "Content-Length: 99\r\nContent-Type: application/json"
    assert (await raw_post(CREATE, head, b"{")).startswith(b"HTTP/1.1 408")


async def test_blob_body_is_bytes() -> None:
    server = XrpcServer(CATALOG)
    server.add(UPLOAD, lambda call: {"size": len(call.input)})
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{UPLOAD}", bytes(5_000_000), "image/png")
        assert fetched.json() == {"size": 5_000_000}


async def test_method_without_input_refuses_a_body() -> None:
    server = XrpcServer(CATALOG)
    server.add(DELETE, lambda call: None)
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{DELETE}", b"", "")
        assert (fetched.status, fetched.body) == (200, b"")
        fetched = await caller.post(f"/xrpc/{DELETE}", b"x")
        assert error_of(fetched) == (400, "InvalidRequest")


async def stream_size(call: Call) -> Any:
    sizes = [len(piece) async for piece in call.input]
    return {"size": sum(sizes), "pieces": len(sizes)}


async def test_streamed_body_arrives_in_pieces() -> None:
    server = XrpcServer(CATALOG)
    server.add(UPLOAD, stream_size, max_bytes=4_000_000, streamed=True)
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{UPLOAD}", bytes(3_000_000), "image/png")
        assert fetched.json()["size"] == 3_000_000
        assert fetched.json()["pieces"] > 3
        fetched = await caller.post(f"/xrpc/{UPLOAD}", bytes(4_000_001), "image/png")
        assert error_of(fetched) == (413, "PayloadTooLarge")
        fetched = await caller.post(f"/xrpc/{UPLOAD}", b"x", "")
        assert error_of(fetched) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        ("Transfer-Encoding: chunked", 12 * CHUNK, 413),
        ("Content-Length: 100001", b"", 413),
        ("Content-Length: 99", b"x", 408),
        ("Content-Length: 1\r\nContent-Encoding: gzip", b"x", 415),
        ("Content-Length: x", b"", 400),
    ],
)
async def test_bad_streamed_body_is_refused(
    monkeypatch: pytest.MonkeyPatch, head: str, body: bytes, status: int
) -> None:
    def impatient(request: Request, limit: int) -> Any:
        return request_body.stream_body(request, limit, idle=0.2)

    monkeypatch.setattr(request_input, "stream_body", impatient)
    head += "\r\nContent-Type: image/png"
    line = await raw_post(UPLOAD, head, body, stream_size, streamed=True)
    assert line.startswith(f"HTTP/1.1 {status}".encode())
