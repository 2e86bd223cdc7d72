from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from loopback_peers import until
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from network.errors import DidNotFoundError, RateLimitedError, TimedOutError
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.http.responses import Fetched
from network.server.admission import GuardPolicy
from network.server.listener import serving
from network.server.request_guard import RequestGuard
from network.xrpc.server import (
    Auth,
    AuthMode,
    Call,
    Handler,
    Reply,
    XrpcError,
    XrpcServer,
)
from protocol.data import json_form
from protocol.data.cid import Cid, cid_for
from protocol.errors import InvalidRecordError, InvalidSyntaxError
from protocol.lexicon import Catalog
from protocol.lexicon.methods import EMPTY_IS_ABSENT

SEARCH = "app.bsky.feed.searchPosts"
POSTS = "app.bsky.feed.getPosts"
RESOLVE = "com.atproto.identity.resolveHandle"
CREATE = "com.atproto.repo.createRecord"
CREATE_ACCOUNT = "com.atproto.server.createAccount"
REQUEST_CRAWL = "com.atproto.sync.requestCrawl"
UPLOAD = "com.atproto.repo.uploadBlob"
REFRESH = "com.atproto.server.refreshSession"
DELETE = "com.atproto.server.deleteSession"
GET_REPO = "com.atproto.sync.getRepo"
SUBSCRIBE = "com.atproto.sync.subscribeRepos"

CATALOG = Catalog.load()
DID = "did:plc:" + "a" * 24
DEV = Policy(
    allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000, concurrency=100)
)


class Caller:
    def __init__(self, url: str, fetcher: Fetcher) -> None:
        self.url = url
        self._fetcher = fetcher

    async def get(self, path: str, **headers: str) -> Fetched:
        return await self._fetcher.get(self.url + path, headers=_names(headers))

    async def post(
        self, path: str, body: Any = b"", kind: str = "application/json", **more: str
    ) -> Fetched:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": kind} if kind else {"Content-Type": ""}
        return await self._fetcher.post(
            self.url + path, body=data, headers={**headers, **_names(more)}
        )

    async def send(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        async with self._fetcher.session.request(
            method, self.url + path, headers=_names(headers)
        ) as response:
            return response.status, response.headers


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def calling(server: XrpcServer, **options: Any) -> AsyncIterator[Caller]:
    async with serving(server.app(**options)) as url, Fetcher(DEV) as fetcher:
        yield Caller(url, fetcher)


def ask(
    nsid: str,
    handler: Handler,
    *paths: str,
    auth: AuthMode = "none",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> list[Fetched]:
    async def work() -> list[Fetched]:
        server = XrpcServer(CATALOG, **options)
        server.add(nsid, handler, auth)
        async with calling(server) as caller:
            return [await caller.get(path, **(headers or {})) for path in paths]

    return asyncio.run(work())


def error_of(fetched: Fetched) -> tuple[int, str]:
    body = json.loads(fetched.body)
    assert set(body) == {"error", "message"}
    assert fetched.headers["content-type"].startswith("application/json")
    assert fetched.headers["access-control-allow-origin"] == "*"
    return fetched.status, body["error"]


# Parameters.


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


def test_bad_parameters_are_the_callers_fault() -> None:
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
async def test_parameter_that_no_database_takes_is_named(
    query: str, message: str
) -> None:
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


def test_batches_are_capped_by_their_lexicon() -> None:
    uris = "&".join([f"uris=at://{DID}/app.bsky.feed.post/a"] * 26)
    (fetched,) = ask(POSTS, lambda call: {"posts": []}, f"/xrpc/{POSTS}?{uris}")
    assert error_of(fetched) == (400, "InvalidRequest")


# Bodies.


async def test_a_json_body_reaches_the_handler_checked() -> None:
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


async def test_large_body_is_parsed_beside_the_event_loop(
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
            record = {
                "repo": DID,
                "collection": "a.b.c",
                "record": {"x": "y" * size},
            }
            assert (await caller.post(f"/xrpc/{CREATE}", record)).status == 200
    assert threads == [True, False]


async def test_a_method_may_take_more_json_than_others() -> None:
    big = {"repo": DID, "collection": "a.b.c", "record": {"text": "x" * 3_000_000}}
    server = XrpcServer(CATALOG)
    server.add(CREATE, lambda call: {"size": len(call.input["record"]["text"])})
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{CREATE}", big)
        assert error_of(fetched) == (413, "PayloadTooLarge")
    server.add(CREATE, lambda call: len(str(call.input)), max_bytes=4_000_000)
    async with calling(server) as caller:
        assert (await caller.post(f"/xrpc/{CREATE}", big)).status == 200


async def test_an_endless_chunked_body_is_stopped_at_the_cap() -> None:
    server = XrpcServer(CATALOG)
    server.add(UPLOAD, lambda call: pytest.fail("called"), max_bytes=100_000)
    async with serving(server.app()) as url:
        host = url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(host.split(":")[1])
        )
        writer.write(
            f"POST /xrpc/{UPLOAD} HTTP/1.1\r\nHost: {host}\r\n"
            "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(12):
            writer.write(b"2710\r\n" + bytes(10_000) + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_body_announced_too_large_is_not_waited_for() -> None:
    server = XrpcServer(CATALOG)
    server.add(CREATE, lambda call: pytest.fail("called"), max_bytes=1_000)
    async with serving(server.app()) as url:
        host = url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(host.split(":")[1])
        )
        writer.write(
            f"POST /xrpc/{CREATE} HTTP/1.1\r\nHost: {host}\r\n"
            "Content-Length: 1001\r\n"
            "Content-Type: application/json\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10.0)
        assert head.startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from network.xrpc import request_body, request_input

    async def impatient(request: Request, limit: int) -> bytes:
        return await request_body.read_body(request, limit, total=0.2)

    monkeypatch.setattr(request_input, "read_body", impatient)
    server = XrpcServer(CATALOG)
    server.add(CREATE, lambda call: pytest.fail("called"))
    async with serving(server.app()) as url:
        host = url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(host.split(":")[1])
        )
        writer.write(
            f"POST /xrpc/{CREATE} HTTP/1.1\r\nHost: {host}\r\n"
            "Content-Length: 99\r\nContent-Type: application/json\r\n\r\n{".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        writer.close()


async def test_blobs_come_as_bytes() -> None:
    server = XrpcServer(CATALOG)
    server.add(UPLOAD, lambda call: {"size": len(call.input)})
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{UPLOAD}", bytes(5_000_000), "image/png")
        assert fetched.json() == {"size": 5_000_000}


async def test_a_method_without_input_takes_no_body() -> None:
    server = XrpcServer(CATALOG)
    server.add(DELETE, lambda call: None)
    async with calling(server) as caller:
        fetched = await caller.post(f"/xrpc/{DELETE}", b"", "")
        assert (fetched.status, fetched.body) == (200, b"")
        fetched = await caller.post(f"/xrpc/{DELETE}", b"x")
        assert error_of(fetched) == (400, "InvalidRequest")


# Verbs and unknown methods.


async def test_verbs() -> None:
    server = XrpcServer(CATALOG)
    server.add(RESOLVE, lambda call: {"did": DID})
    server.add(DELETE, lambda call: None)
    query = f"/xrpc/{RESOLVE}?handle=a.net"
    async with calling(server) as caller:
        fetched = await caller.post(query)
        assert error_of(fetched) == (405, "InvalidRequest")
        assert fetched.headers["allow"] == "GET, HEAD"
        assert error_of(await caller.get(f"/xrpc/{DELETE}"))[0] == 405
        for verb in ("PUT", "PATCH", "DELETE", "TRACE"):
            assert (await caller.send(verb, query))[0] == 405
        status, headers = await caller.send("HEAD", query)
        assert (status, headers["content-length"]) == (200, "42")


def test_unknown_methods_are_501_in_json() -> None:
    names = ["a.b.c", "", "x", "a/b", "_health/x", "%00", "..%2f", "a.b.c/"]
    paths = [f"/xrpc/{name}" for name in names]
    for path, fetched in zip(
        paths, ask(RESOLVE, lambda call: {"did": DID}, *paths), strict=True
    ):
        assert error_of(fetched) == (501, "MethodNotImplemented"), path


def test_registering_what_the_lexicons_do_not_have_is_our_bug() -> None:
    server = XrpcServer(CATALOG)
    with pytest.raises(ValueError):
        server.add("a.b.c", lambda call: None)
    with pytest.raises(ValueError):
        server.add("app.bsky.feed.post", lambda call: None)
    with pytest.raises(ValueError):
        server.add(SUBSCRIBE, lambda call: None)
    with pytest.raises(ValueError):
        server.route_subscription(RESOLVE, None)  # type: ignore[arg-type]


# Handlers and their answers.


async def test_sync_handlers_run_side_by_side_in_threads() -> None:
    threads: set[int] = set()

    def slow(call: Call) -> Any:
        threads.add(threading.get_ident())
        time.sleep(0.2)
        return {"did": DID}

    server = XrpcServer(CATALOG, threads=10)
    server.add(RESOLVE, slow)
    async with calling(server) as caller:
        started = time.monotonic()
        await asyncio.gather(
            *(caller.get(f"/xrpc/{RESOLVE}?handle=a.net") for _ in range(10))
        )
        assert time.monotonic() - started < 1.0
    assert len(threads) == 10
    assert threading.get_ident() not in threads


def test_async_handlers_and_replies() -> None:
    async def handler(call: Call) -> Reply:
        return Reply({"did": DID}, {"Atproto-Repo-Rev": "3k"}, status=202)

    (fetched,) = ask(RESOLVE, handler, f"/xrpc/{RESOLVE}?handle=a.net")
    assert (fetched.status, fetched.headers["atproto-repo-rev"]) == (202, "3k")
    exposed = fetched.headers["access-control-expose-headers"]
    assert {
        "atproto-repo-rev",
        "atproto-content-labelers",
        "content-range",
        "ratelimit-remaining",
        "retry-after",
    } <= set(exposed.split(", "))


def test_links_bytes_and_big_numbers_survive_json() -> None:
    cid = Cid(cid_for(b"x"))
    body = {"posts": [{"a": cid, "b": b"\x00\xff", "n": 2**63 - 1}]}
    (fetched,) = ask(SEARCH, lambda call: body, f"/xrpc/{SEARCH}?q=a")
    assert json.loads(fetched.body) == {
        "posts": [{"a": {"$link": str(cid)}, "b": {"$bytes": "AP8"}, "n": 2**63 - 1}]
    }


CAR = "application/vnd.ipld.car"


def test_streams_of_bytes() -> None:
    def sync(call: Call) -> Iterator[bytes]:
        for number in range(10_000):
            yield b"%06d" % number

    async def asynchronous(call: Call) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            for number in range(10_000):
                yield b"%06d" % number

        return Reply(chunks(), content_type="text/x-numbers")

    want = b"".join(b"%06d" % number for number in range(10_000))
    path = f"/xrpc/{GET_REPO}?did={DID}"
    for handler, kind in (
        (sync, CAR),
        (asynchronous, "text/x-numbers"),
        (lambda call: want, CAR),
        (lambda call: iter(()), CAR),
    ):
        (fetched,) = ask(GET_REPO, handler, path)
        assert fetched.headers["content-type"] == kind
        assert fetched.body in (want, b"")
    assert fetched.body == b""


def test_a_stream_that_fails_at_once_is_still_an_error_answer() -> None:
    def handler(call: Call) -> Iterator[bytes]:
        raise XrpcError("RepoNotFound", "no such repo")
        yield b""

    async def asynchronous(call: Call) -> AsyncIterator[bytes]:
        async def chunks() -> AsyncIterator[bytes]:
            raise XrpcError("RepoNotFound", "no such repo")
            yield b""

        return chunks()

    for each in (handler, asynchronous):
        (fetched,) = ask(GET_REPO, each, f"/xrpc/{GET_REPO}?did={DID}")
        assert error_of(fetched) == (400, "RepoNotFound")


def test_a_stream_is_closed_when_its_reader_leaves() -> None:
    closed: list[str] = []

    def sync(call: Call) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed.append("sync")

    async def asynchronous(call: Call) -> AsyncIterator[bytes]:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(100_000)
            finally:
                closed.append("async")

        return chunks()

    async def work(handler: Handler) -> None:
        server = XrpcServer(CATALOG)
        server.add(GET_REPO, handler)
        path = f"/xrpc/{GET_REPO}?did={DID}"
        async with serving(server.app()) as url, Fetcher(DEV) as fetcher:
            async with fetcher.stream(url + path, max_bytes=10**9) as body:
                async for _chunk in body:
                    break
            await until(lambda: len(closed) == 1)
            # HEAD runs the handler but reads nothing.
            async with fetcher.session.head(url + path) as response:
                assert response.status == 200
            await until(lambda: len(closed) == 2)

    for handler, name in ((sync, "sync"), (asynchronous, "async")):
        closed.clear()
        asyncio.run(work(handler))
        assert closed == [name, name]


def test_answers_can_be_checked_against_their_lexicon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = f"/xrpc/{RESOLVE}?handle=a.net"

    def wrong(call: Call) -> Any:
        return {"did": "nobody"}

    (fetched,) = ask(RESOLVE, wrong, path, check_output=True)
    assert error_of(fetched) == (500, "InternalServerError")
    assert b"nobody" not in fetched.body
    assert "did" in caplog.text
    (fetched,) = ask(RESOLVE, wrong, path, check_output=False)
    assert fetched.status == 200


# Errors.


ERRORS: list[tuple[Exception, int, str]] = [
    (XrpcError("HandleNotFound", "nobody"), 400, "HandleNotFound"),
    (XrpcError("AccountTakedown", "gone", 403), 403, "AccountTakedown"),
    (InvalidSyntaxError("not a DID"), 400, "InvalidRequest"),
    (DidNotFoundError("no such DID"), 400, "InvalidRequest"),
    (TimedOutError("slow"), 504, "UpstreamTimeout"),
    (ValueError("secret detail"), 500, "InternalServerError"),
    (KeyError("secret detail"), 500, "InternalServerError"),
    (RecursionError("secret detail"), 500, "InternalServerError"),
    (ExceptionGroup("secret", [ValueError()]), 500, "InternalServerError"),
    # The last one: the client of this test learns from it to wait.
    (RateLimitedError("busy", 12.0), 503, "UpstreamFailure"),
]


@pytest.mark.parametrize("is_async", [False, True])
def test_errors_are_json_with_a_name_and_no_trace(is_async: bool) -> None:
    def handler(call: Call) -> Any:
        raise ERRORS[int(call.params["handle"].split(".")[0][1:])][0]

    async def asynchronous(call: Call) -> Any:
        handler(call)

    answers = ask(
        RESOLVE,
        asynchronous if is_async else handler,
        *(f"/xrpc/{RESOLVE}?handle=n{n}.net" for n in range(len(ERRORS))),
    )
    for (raised, status, name), fetched in zip(ERRORS, answers, strict=True):
        assert error_of(fetched) == (status, name), raised
        assert b"secret" not in fetched.body
        assert b"Traceback" not in fetched.body
        wait = fetched.headers.get("retry-after")
        assert wait == ("12" if isinstance(raised, RateLimitedError) else None)


def test_a_crash_is_logged_once_with_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(call: Call) -> Any:
        raise ValueError("the cause")

    with caplog.at_level(logging.ERROR):
        ask(RESOLVE, handler, f"/xrpc/{RESOLVE}?handle=a.net")
    (record,) = [r for r in caplog.records if r.name.startswith("network")]
    assert record.exc_info is not None
    assert "the cause" in caplog.text


def test_headers_of_errors_cannot_be_split() -> None:
    def handler(call: Call) -> Any:
        raise XrpcError("Odd", "x", 400, {"X-A": "a\r\nX-B: b", "X-C": "good"})

    (fetched,) = ask(RESOLVE, handler, f"/xrpc/{RESOLVE}?handle=a.net")
    assert error_of(fetched) == (400, "Odd")
    assert "x-b" not in fetched.headers
    assert fetched.headers["x-c"] == "good"


# Who asks.


async def test_auth_modes() -> None:
    asked: list[str] = []

    async def authenticate(request: Request, nsid: str) -> Auth | None:
        asked.append(nsid)
        token = request.headers.get("authorization")
        if token is None:
            return None
        if token != "Bearer good":
            raise XrpcError("BadJwt", "no", 401)
        return Auth(DID, "service", {"lxm": nsid})

    def handler(call: Call) -> Any:
        return {"did": call.auth.did if call.auth else "did:web:nobody.net"}

    path = f"/xrpc/{RESOLVE}?handle=a.net"
    outcomes: dict[tuple[str, str | None], Any] = {}
    for mode in ("none", "optional", "required"):
        server = XrpcServer(CATALOG, authenticate=authenticate)
        server.add(RESOLVE, handler, mode)
        async with calling(server) as caller:
            for token in (None, "Bearer good", "Bearer bad"):
                headers = {"Authorization": token} if token else {}
                fetched = await caller.get(path, **headers)
                body = json.loads(fetched.body)
                outcome = body.get("did", body.get("error"))
                outcomes[mode, token] = (fetched.status, outcome)
                if fetched.status == 401:
                    assert fetched.headers["www-authenticate"] == "Bearer"
    anybody = (200, "did:web:nobody.net")
    assert outcomes == {
        ("none", None): anybody,
        ("none", "Bearer good"): anybody,
        ("none", "Bearer bad"): anybody,
        ("optional", None): anybody,
        ("optional", "Bearer good"): (200, DID),
        ("optional", "Bearer bad"): (401, "BadJwt"),
        ("required", None): (401, "AuthMissing"),
        ("required", "Bearer good"): (200, DID),
        ("required", "Bearer bad"): (401, "BadJwt"),
    }
    assert asked == [RESOLVE] * 6


def test_nobody_is_let_in_where_there_is_no_authenticator() -> None:
    (fetched,) = ask(
        RESOLVE,
        lambda call: pytest.fail("called"),
        f"/xrpc/{RESOLVE}?handle=a.net",
        auth="required",
        headers={"Authorization": "Bearer x"},
    )
    assert error_of(fetched) == (401, "AuthMissing")


# Hooks.


async def test_fallback_declines_with_none() -> None:
    async def fallback(request: Request, nsid: str) -> Response | None:
        if nsid == "a.b.c":
            return PlainTextResponse(f"proxied {request.method}")
        return None

    server = XrpcServer(CATALOG, fallback=fallback)
    server.add(RESOLVE, lambda call: {"did": DID})
    known = f"/xrpc/{RESOLVE}?handle=a.net"
    async with calling(server) as caller:
        assert (await caller.get("/xrpc/a.b.c")).body == b"proxied GET"
        assert (await caller.post("/xrpc/a.b.c")).body == b"proxied POST"
        assert error_of(await caller.get("/xrpc/a.b.d"))[0] == 501
        assert (await caller.get(known)).json() == {"did": DID}


async def test_verified_accounts_behind_one_address_have_shares_of_their_own() -> None:
    async def authenticate(request: Request, nsid: str) -> Auth | None:
        did = request.headers.get("x-did")
        return Auth(did, "test") if did else None

    guard = RequestGuard(GuardPolicy(rate=0.001, burst=2))
    server = XrpcServer(CATALOG, authenticate=authenticate, guard=guard)
    server.add(RESOLVE, lambda call: {"did": DID}, "optional")
    path = f"/xrpc/{RESOLVE}?handle=a.net"
    async with calling(server) as caller:

        async def statuses(**headers: str) -> list[int]:
            asked = [
                await caller.send("GET", path, X_Forwarded_For="9.9.9.9", **headers)
                for _ in range(3)
            ]
            assert "ratelimit-reset" in asked[-1][1]
            assert "access-control-allow-origin" in asked[-1][1]
            return [status for status, _ in asked]

        token = {"Authorization": "Bearer aaaa.bbbb.cccc"}
        assert await statuses(X_Did="did:plc:a", **token) == [200, 200, 429]
        assert await statuses(X_Did="did:plc:b", **token) == [200, 200, 429]
        assert await statuses(X_Did="did:plc:b#any", **token) == [429, 429, 429]
        assert await statuses() == [200, 200, 429]


async def test_async_query_is_cancelled_when_its_client_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopped: list[str] = []
    begun: list[str] = []

    async def handler(call: Call) -> Any:
        begun.append(call.nsid)
        try:
            await asyncio.sleep(0.5 if call.nsid == CREATE else 60)
        except asyncio.CancelledError:
            stopped.append(call.nsid)
            raise
        stopped.append(f"{call.nsid} done")
        return {}

    body = json.dumps({"repo": DID, "collection": "a.b.c", "record": {}}).encode()
    get = f"GET /xrpc/{RESOLVE}?handle=a.net HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    post = (
        f"POST /xrpc/{CREATE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    server = XrpcServer(CATALOG)
    server.add(RESOLVE, handler)
    server.add(CREATE, handler)
    async with serving(server.app()) as url:
        port = int(url.rpartition(":")[2])
        for number, request in enumerate((get, post), 1):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await until(lambda number=number: len(begun) == number)
            writer.close()
            await until(lambda number=number: len(stopped) == number)
    # What writes goes on to its end.
    assert stopped == [RESOLVE, f"{CREATE} done"]
    assert not [record for record in caplog.records if record.exc_info]


async def test_waiting_for_a_thread_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("network.xrpc.server._MAX_WAIT_S", 0.1)
    release = threading.Event()

    def handler(call: Call) -> Any:
        release.wait(20)
        return {"did": DID}

    server = XrpcServer(CATALOG, threads=1)
    server.add(RESOLVE, handler)
    path = f"/xrpc/{RESOLVE}?handle=a.net"
    async with calling(server) as caller:
        first = asyncio.create_task(caller.get(path))
        await until(lambda: server.threads.borrowed_tokens == 1)
        second = await caller.get(path)
        assert error_of(second) == (503, "ServiceUnavailable")
        assert second.headers["retry-after"] == "1"
        release.set()
        assert (await first).status == 200


async def test_redirects_never_name_the_host_of_the_request() -> None:
    async with calling(XrpcServer(CATALOG)) as caller:
        status, headers = await caller.send("GET", "/docs/", Host="evil.example")
        assert status == 404
        assert "location" not in headers


def test_every_request_is_observed_once_under_a_bounded_set_of_names() -> None:
    seen: list[tuple[str, int]] = []

    def observe(nsid: str, status: int, seconds: float) -> None:
        assert 0 <= seconds < 5
        seen.append((nsid, status))

    ask(
        RESOLVE,
        lambda call: {"did": DID},
        f"/xrpc/{RESOLVE}?handle=a.net",
        f"/xrpc/{RESOLVE}",
        "/xrpc/a.b.c",
        "/xrpc/a.b.d",
        observe=observe,
    )
    assert seen == [(RESOLVE, 200), (RESOLVE, 400), ("unknown", 501), ("unknown", 501)]


async def test_preflights_and_origins() -> None:
    server = XrpcServer(CATALOG)
    server.add(RESOLVE, lambda call: {"did": DID}, "required")
    async with calling(server) as caller:
        asked = "authorization,atproto-proxy,atproto-accept-labelers,content-type"
        for path in (f"/xrpc/{RESOLVE}", "/xrpc/a.b.c", "/openapi.json"):
            status, headers = await caller.send(
                "OPTIONS",
                path,
                Origin="https://app.net",
                Access_Control_Request_Method="POST",
                Access_Control_Request_Headers=asked,
            )
            assert status == 204
            assert headers["access-control-allow-origin"] == "*"
            assert headers["access-control-allow-headers"] == asked
            assert "POST" in headers["access-control-allow-methods"]
            assert int(headers["access-control-max-age"]) > 0
            assert "access-control-allow-credentials" not in headers
        _, headers = await caller.send(
            "OPTIONS", "/", Access_Control_Request_Headers="a b;c"
        )
        assert "atproto-proxy" in headers["access-control-allow-headers"]


# What the server says of itself.


async def test_health_and_extra_routes() -> None:
    async def extra(request: Request) -> Response:
        return PlainTextResponse("extra")

    server = XrpcServer(CATALOG, version="9.9", title="T")
    async with calling(server, extra_routes=[Route("/page", extra)]) as caller:
        fetched = await caller.get("/xrpc/_health")
        assert fetched.json() == {"version": "9.9"}
        assert (await caller.get("/page")).body == b"extra"
        assert (await caller.get("/nowhere")).status == 404


def full_server() -> XrpcServer:
    server = XrpcServer(CATALOG, title='Big <World> "x"')
    for nsid in CATALOG.methods():
        method = CATALOG.method(nsid)
        assert method is not None
        if method.kind == "subscription":
            server.route_subscription(nsid, None)  # type: ignore[arg-type]
        else:
            server.add(nsid, lambda call: None, "optional")
    return server


async def test_openapi_of_every_method_there_is() -> None:
    async with calling(full_server()) as caller:
        document = (await caller.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {f"/xrpc/{n}" for n in CATALOG.methods()}
    schemas = document["components"]["schemas"]

    def refs(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for item in value.values():
                yield from refs(item)
        elif isinstance(value, list):
            for item in value:
                yield from refs(item)

    found = set(refs(document))
    assert len(found) > 300
    for ref in found:
        name = ref.removeprefix("#/components/schemas/")
        assert name in schemas, ref
        assert set(name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
        )

    search = document["paths"][f"/xrpc/{SEARCH}"]["get"]
    limit = next(p for p in search["parameters"] if p["name"] == "limit")
    assert limit["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 25,
    }
    assert "BadQueryString" in search["responses"]["400"]["description"]
    assert search["security"] == [{}, {"bearer": []}]
    create = document["paths"][f"/xrpc/{CREATE}"]["post"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["required"]) == {"repo", "collection", "record"}
    assert schemas["app.bsky.feed.defs.postView"]["properties"]["author"] == {
        "$ref": "#/components/schemas/app.bsky.actor.defs.profileViewBasic"
    }
    car = document["paths"][f"/xrpc/{GET_REPO}"]["get"]["responses"]["200"]
    assert CAR in car["content"]


async def test_the_docs_page_stands_alone() -> None:
    async with calling(full_server()) as caller:
        fetched = await caller.get("/docs")
    page = fetched.body.decode()
    assert fetched.headers["content-type"].startswith("text/html")
    assert fetched.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page
    assert "src=" not in page
    assert "Big &lt;World&gt; &#34;x&#34; API" in page
    for nsid in CATALOG.methods():
        assert f'id="{nsid}"' in page
    assert page.count("<details") == page.count("</details>")


async def test_slow_headers_do_not_hold_up_others() -> None:
    server = XrpcServer(CATALOG)
    server.add(RESOLVE, lambda call: {"did": DID})
    async with calling(server) as caller:
        port = int(caller.url.rsplit(":", 1)[1])
        writers = []
        for _ in range(500):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
            writers.append(writer)
        times = []
        for _ in range(50):
            started = time.monotonic()
            await caller.get(f"/xrpc/{RESOLVE}?handle=a.net")
            times.append(time.monotonic() - started)
        assert sorted(times)[48] < 0.3
        for writer in writers:
            writer.close()
