"""Replies and errors of XRPC handlers."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from loopback_peers import until
from xrpc_calls import (
    CAR,
    CATALOG,
    DEV,
    DID,
    GET_REPO,
    RESOLVE,
    SEARCH,
    ask,
    calling,
    error_of,
)

from network.errors import DidNotFoundError, RateLimitedError, TimedOutError
from network.http.client import Fetcher
from network.server.listener import serving
from network.xrpc.server import Call, Handler, Reply, XrpcError, XrpcServer
from protocol.data.cid import Cid, cid_for
from protocol.errors import InvalidSyntaxError


async def test_sync_handlers_run_in_threads() -> None:
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


def test_reply_sets_status_and_headers() -> None:
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


def test_json_encodes_links_bytes_and_big_numbers() -> None:
    cid = Cid(cid_for(b"x"))
    body = {"posts": [{"a": cid, "b": b"\x00\xff", "n": 2**63 - 1}]}
    (fetched,) = ask(SEARCH, lambda call: body, f"/xrpc/{SEARCH}?q=a")
    assert json.loads(fetched.body) == {
        "posts": [{"a": {"$link": str(cid)}, "b": {"$bytes": "AP8"}, "n": 2**63 - 1}]
    }


def test_handler_streams_bytes() -> None:
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


def test_stream_that_fails_at_once_is_an_error_response() -> None:
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


def test_stream_closes_when_its_reader_disconnects() -> None:
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


def test_check_output_validates_responses(caplog: pytest.LogCaptureFixture) -> None:
    path = f"/xrpc/{RESOLVE}?handle=a.net"

    def wrong(call: Call) -> Any:
        return {"did": "nobody"}

    (fetched,) = ask(RESOLVE, wrong, path, check_output=True)
    assert error_of(fetched) == (500, "InternalServerError")
    assert b"nobody" not in fetched.body
    assert "did" in caplog.text
    (fetched,) = ask(RESOLVE, wrong, path, check_output=False)
    assert fetched.status == 200


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
    # The last one, since the client of this test obeys its Retry-After.
    (RateLimitedError("busy", 12.0), 503, "UpstreamFailure"),
]


@pytest.mark.parametrize("is_async", [False, True])
def test_errors_are_json_with_a_name_and_without_a_trace(is_async: bool) -> None:
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


def test_crash_is_logged_once_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
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
