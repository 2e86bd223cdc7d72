"""Methods, callers and hooks of the XRPC server."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from loopback_peers import until
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from xrpc_calls import (
    CATALOG,
    CREATE,
    DELETE,
    DID,
    RESOLVE,
    SUBSCRIBE,
    ask,
    calling,
    error_of,
)

from network.server.admission import GuardPolicy
from network.server.listener import serving
from network.server.request_guard import RequestGuard
from network.xrpc.server import Auth, Call, XrpcError, XrpcServer


async def test_wrong_http_method_is_405() -> None:
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


def test_add_refuses_methods_without_a_lexicon() -> None:
    server = XrpcServer(CATALOG)
    with pytest.raises(ValueError):
        server.add("a.b.c", lambda call: None)
    with pytest.raises(ValueError):
        server.add("app.bsky.feed.post", lambda call: None)
    with pytest.raises(ValueError):
        server.add(SUBSCRIBE, lambda call: None)
    with pytest.raises(ValueError):
        server.route_subscription(RESOLVE, None)  # type: ignore[arg-type]


async def test_auth_modes_decide_on_tokens() -> None:
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


def test_required_auth_without_an_authenticator_is_refused() -> None:
    (fetched,) = ask(
        RESOLVE,
        lambda call: pytest.fail("called"),
        f"/xrpc/{RESOLVE}?handle=a.net",
        auth="required",
        headers={"Authorization": "Bearer x"},
    )
    assert error_of(fetched) == (401, "AuthMissing")


async def test_methods_of_spaces_are_never_forwarded() -> None:
    async def fallback(request: Request, nsid: str) -> Response | None:
        return Response(b"secret")

    server = XrpcServer(CATALOG, fallback=fallback)
    async with calling(server) as caller:
        assert (await caller.get("/xrpc/a.b.c")).body == b"secret"
        for name in ("getRecord", "listRecords", "x.y"):
            refused = await caller.get(f"/xrpc/com.atproto.space.{name}")
            assert error_of(refused) == (501, "MethodNotImplemented")
            assert b"spaces" in refused.body


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


async def test_verified_accounts_of_one_address_have_their_own_shares() -> None:
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


async def test_async_query_is_cancelled_when_its_client_disconnects(
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
    # A procedure runs to its end.
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


def test_every_request_is_observed_once() -> None:
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


async def test_preflights_allow_every_origin() -> None:
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
