"""Service proxying: targets, tokens, forwarded headers and failures."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pds_provider import Provider, start_provider
from pds_world import Client, World, free_port, post, sign_up, signing_key_of
from starlette.responses import JSONResponse, RedirectResponse, Response

from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.resolver import IdentityResolver
from pds.context import utc_now
from pds.exceptions import InvalidRequestError
from pds.proxy import ProxyRequest, ServiceProxy, parse_service_ref
from pds.settings import PdsSettings
from protocol.identity.did_document import DidDocument, Service
from protocol.identity.service_auth import (
    check_claims,
    check_signature,
    parse_service_jwt,
)
from protocol.syntax import Did

SEARCH = "app.bsky.feed.searchPosts"
MUTE = "app.bsky.graph.muteActor"
PUT_PREFERENCES = "app.bsky.actor.putPreferences"


@pytest.fixture(scope="module")
def first(world: World) -> Provider:
    return start_provider(world, "first")


@pytest.fixture(scope="module")
def second(world: World) -> Provider:
    return start_provider(world, "second")


@pytest.fixture(scope="module")
def server(world: World, first: Provider) -> Client:
    return world.start_pds(
        default_indexer=f"{first.did}#bigworld", max_proxy_response_bytes=100_000
    )


@pytest.fixture(autouse=True)
def _plain_answers(first: Provider, second: Provider) -> None:
    first.answer = second.answer = None


def test_proxy_forwards_unknown_methods_to_the_default_indexer(
    world: World, alice: Client, first: Provider
) -> None:
    answer = alice.get(SEARCH, q="a b&c", limit=5)
    assert answer.json == {"from": "first"}
    request, _ = first.last
    assert request.url.path == f"/xrpc/{SEARCH}"
    assert dict(request.query_params) == {"q": "a b&c", "limit": "5"}
    scheme, _, token = request.headers["authorization"].partition(" ")
    jwt = parse_service_jwt(token)
    check_claims(jwt, now=time.time(), audiences=[first.did], lxm=SEARCH)
    check_signature(jwt, signing_key_of(world.plc_url, alice.did))
    assert (scheme, jwt.iss) == ("Bearer", alice.did)


def test_proxy_forwards_methods_without_a_lexicon(
    alice: Client, first: Provider
) -> None:
    answer = alice.post("dev.example.doThings", {"a": 1})
    assert answer.json == {"from": "first"}
    request, body = first.last
    assert json.loads(body) == {"a": 1}
    token = parse_service_jwt(request.headers["authorization"].split()[1])
    assert token.lxm == "dev.example.doThings"


def test_proxy_forwards_only_listed_headers(alice: Client, first: Provider) -> None:
    alice.send(
        "POST",
        f"/xrpc/{MUTE}",
        body=b"{}",
        headers={
            "Content-Type": "application/json",
            "Accept-Language": "de",
            "Atproto-Accept-Labelers": "did:plc:x;redact",
            "Cookie": "secret=1",
            "X-Forwarded-For": "10.0.0.1",
            "X-Admin": "yes",
        },
    )
    headers = first.last[0].headers
    assert headers["accept-language"] == "de"
    assert headers["atproto-accept-labelers"] == "did:plc:x;redact"
    assert headers["content-type"] == "application/json"
    assert str(alice.token) not in headers["authorization"]
    for name in ("cookie", "x-forwarded-for", "x-admin", "atproto-proxy"):
        assert name not in headers

    first.answer = JSONResponse(
        {"ok": True},
        headers={
            "Atproto-Repo-Rev": "3abc",
            "Atproto-Content-Labelers": "did:plc:x",
            "Content-Language": "de",
            "Set-Cookie": "a=b",
            "X-Else": "1",
        },
    )
    answer = alice.get(SEARCH, q="x")
    assert answer.headers["Atproto-Repo-Rev"] == "3abc"
    assert answer.headers["Atproto-Content-Labelers"] == "did:plc:x"
    assert answer.headers["Content-Language"] == "de"
    assert answer.headers["Content-Type"] == "application/json"
    for name in ("Set-Cookie", "X-Else"):
        assert name not in answer.headers


def test_proxy_header_selects_the_service(
    alice: Client, first: Provider, second: Provider
) -> None:
    def ask(target: str) -> Any:
        return alice.send(
            "GET", f"/xrpc/{SEARCH}?q=x", headers={"Atproto-Proxy": target}
        )

    assert ask(f"{second.did}#bigworld").json == {"from": "second"}
    jwt = parse_service_jwt(second.last[0].headers["authorization"].split()[1])
    assert jwt.aud == second.did
    count = len(first.requests) + len(second.requests)
    for target in (
        second.did,
        f"{second.did}#",
        f"{second.did}#other",
        f"{second.did}#big#world",
        f"{second.did} #bigworld",
        "#bigworld",
        "did:web:localhost%3A9#bigworld",
        "did:plc:" + "a" * 24 + "#bigworld",
        "did:key:z6Mk#bigworld",
        "nonsense#bigworld",
    ):
        answer = ask(target)
        assert (answer.status, answer.error) == (400, "InvalidRequest"), target
    assert len(first.requests) + len(second.requests) == count


def test_proxy_uses_the_indexer_of_the_account(
    server: Client, first: Provider, second: Provider
) -> None:
    bob = sign_up(server, "bob.a.test")
    assert bob.get(SEARCH, q="x").json == {"from": "first"}
    preference = {
        "$type": "dev.bigworld.actor.defs#indexerPref",
        "service": f"{second.did}#bigworld",
    }
    assert bob.post(PUT_PREFERENCES, {"preferences": [preference]}).status == 200
    assert bob.get(SEARCH, q="x").json == {"from": "second"}
    answer = bob.send(
        "GET", f"/xrpc/{SEARCH}?q=x", headers={"Atproto-Proxy": f"{first.did}#bigworld"}
    )
    assert answer.json == {"from": "first"}
    bob.post(PUT_PREFERENCES, {"preferences": []})
    assert bob.get(SEARCH, q="x").json == {"from": "first"}


def test_proxy_requires_a_session(server: Client, first: Provider) -> None:
    count = len(first.requests)
    answer = server.get(SEARCH, q="x")
    assert (answer.status, answer.error) == (401, "AuthMissing")
    assert len(first.requests) == count


def test_proxy_refuses_a_deactivated_account(server: Client) -> None:
    carol = sign_up(server, "carol.a.test")
    carol.post("com.atproto.server.deactivateAccount", {})
    assert carol.get(SEARCH, q="x").error == "AccountDeactivated"


@pytest.mark.parametrize(
    ("nsid", "status"),
    [
        ("com.atproto.server.updateEmail", 405),
        ("com.atproto.server.getSession", 200),
        ("com.atproto.identity.signPlcOperation", 405),
    ],
)
def test_proxy_refuses_protected_methods(
    alice: Client, first: Provider, nsid: str, status: int
) -> None:
    count = len(first.requests)
    assert alice.get(nsid).status == status
    assert len(first.requests) == count


def test_proxy_refuses_its_own_server(world: World) -> None:
    port = free_port()
    url = f"http://localhost:{port}"
    provider = start_provider(world, "mirror")
    provider.endpoint = url
    with world.serve_pds("loop", public_url=url) as other:
        # The port of `public_url` counts as this server, served or not.
        dave = sign_up(other, "dave.loop.test")
        for target in (
            f"did:web:localhost%3A{port}#atproto_pds",
            f"{provider.did}#bigworld",
        ):
            answer = dave.send(
                "GET", f"/xrpc/{SEARCH}?q=x", headers={"Atproto-Proxy": target}
            )
            assert (answer.status, answer.error) == (400, "InvalidRequest")
            assert "itself" in answer.json["message"]
        # Without an indexer there is no target.
        assert dave.get(SEARCH, q="x").error == "MethodNotImplemented"


def test_proxy_passes_on_errors_and_hides_failures(
    alice: Client, first: Provider
) -> None:
    cases: list[tuple[Response, int, str | None]] = [
        (JSONResponse({"error": "BadQueryString", "message": "m"}, 400), 400, None),
        (JSONResponse({"error": "NotFound", "message": "m"}, 404), 404, None),
        (JSONResponse({"error": "X"}, 500), 502, "UpstreamFailure"),
        (RedirectResponse("http://localhost:9/"), 502, "UpstreamFailure"),
        (Response(bytes(100_001)), 502, "UpstreamFailure"),
    ]
    for response, status, error in cases:
        first.answer = response
        answer = alice.get(SEARCH, q="x")
        assert answer.status == status
        if error is None:
            assert answer.body == response.body
        else:
            assert answer.error == error


class SlowResponse(Response):
    """A response after two seconds."""

    async def __call__(self, *args: Any) -> None:
        await asyncio.sleep(2)
        await super().__call__(*args)


def test_proxy_429_affects_one_account(
    server: Client, alice: Client, first: Provider, second: Provider
) -> None:
    zoe = sign_up(server, "zoe.a.test")
    body = {"error": "RateLimitExceeded", "message": "m"}
    limits = {
        "Retry-After": "3000",
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "0",
    }
    for provider, target in ((first, None), (second, f"{second.did}#bigworld")):
        headers = {} if target is None else {"Atproto-Proxy": target}
        path = f"/xrpc/{SEARCH}?q=x"
        provider.answer = JSONResponse(body, 429, limits)
        answer = alice.send("GET", path, headers=headers)
        assert (answer.status, answer.json) == (429, body)
        assert {name: answer.headers[name] for name in limits} == limits
        provider.answer = JSONResponse(body, 503, {"Retry-After": "3000"})
        assert alice.send("GET", path, headers=headers).status == 503
        provider.answer = None
        assert zoe.send("GET", path, headers=headers).status == 200
        assert alice.send("GET", path, headers=headers).status == 200


def test_proxy_bounds_the_calls_of_each_account(
    alice: Client, server: Client, first: Provider
) -> None:
    yuri = sign_up(server, "yuri.a.test")
    first.answer = SlowResponse()
    with ThreadPoolExecutor(44) as threads:
        calls = [threads.submit(alice.get, SEARCH, q="x") for _ in range(40)]
        while sum(not call.done() for call in calls) > 36:
            time.sleep(0.01)
        first.answer = None
        assert yuri.get(SEARCH, q="x").status == 200
        answers = [call.result() for call in calls]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) >= 4
    assert {answer.error for answer in refused} == {"RateLimitExceeded"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert {answer.status for answer in answers} == {200, 429}


def test_proxy_times_out_a_slow_provider(world: World, first: Provider) -> None:
    with world.serve_pds(
        "hasty", default_indexer=f"{first.did}#bigworld", proxy_timeout=0.3
    ) as server:
        emma = sign_up(server, "emma.hasty.test")
        assert emma.get(SEARCH, q="x").status == 200
        first.answer = SlowResponse()
        answer = emma.get(SEARCH, q="x")
        assert (answer.status, answer.error) == (504, "UpstreamTimeout")


def test_proxy_sandboxes_pages(alice: Client, first: Provider) -> None:
    first.answer = Response("<script>", media_type="text/html")
    answer = alice.get(SEARCH, q="x")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


class PointsAt(IdentityResolver):
    """A resolver that gives every DID one service, at `endpoint`."""

    endpoint = ""

    async def resolve_did(self, did: str, *, refresh: bool = False) -> DidDocument:
        service = Service("#x", "X", self.endpoint)
        return DidDocument(Did(did), (), None, None, None, (service,))


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://other.example.com",
        "https://127.0.0.1",
        "https://localhost",
        "https://10.0.0.1",
        "https://[::1]",
        "https://169.254.169.254/latest",
    ],
)
def test_proxy_refuses_private_addresses(endpoint: str) -> None:
    settings = PdsSettings(
        public_url="https://pds.example.com",
        handle_domains=(".example.com",),
        plc_url="https://plc.example.com",
        secret=b"x" * 32,
    )

    async def attempt() -> None:
        async with Fetcher(Policy()) as fetcher:
            identity = PointsAt(fetcher)
            identity.endpoint = endpoint
            proxy = ServiceProxy(settings, fetcher, identity, utc_now)
            target = parse_service_ref("did:plc:" + "a" * 24 + "#x")
            request = ProxyRequest(SEARCH, "", {}, None, "did:plc:x")
            await proxy.forward(target, request, None)

    with pytest.raises(InvalidRequestError, match="forbidden address"):
        asyncio.run(attempt())


def test_resolve_handle_asks_the_indexer_for_other_servers(
    server: Client, first: Provider
) -> None:
    nsid = "com.atproto.identity.resolveHandle"
    did = "did:plc:" + "f" * 24
    first.answer = JSONResponse({"did": did})
    assert server.get(nsid, handle="Dora.example.com").json == {"did": did}
    request, _ = first.last
    assert dict(request.query_params) == {"handle": "dora.example.com"}
    first.answer = JSONResponse({"error": "HandleNotFound", "message": "m"}, 400)
    answer = server.get(nsid, handle="dora.example.com")
    assert (answer.status, answer.error) == (400, "HandleNotFound")
    count = len(first.requests)
    assert server.get(nsid, handle="nobody.a.test").error == "HandleNotFound"
    assert len(first.requests) == count
    # A broken indexer is ignored.
    for broken in (JSONResponse([]), Response("x"), JSONResponse({}, 503)):
        first.answer = broken
        assert server.get(nsid, handle="dora.b.test").error == "HandleNotFound"


def test_get_record_asks_the_indexer_for_other_repos(
    server: Client, alice: Client, first: Provider
) -> None:
    nsid = "com.atproto.repo.getRecord"
    foreign = {"repo": "did:plc:" + "f" * 24, "collection": "a.b.c", "rkey": "x"}
    answer = server.get(nsid, **foreign)
    assert answer.json == {"from": "first"}
    assert "authorization" not in first.last[0].headers
    count = len(first.requests)
    mine = alice.create(post("mine")).json
    rkey = mine["uri"].rpartition("/")[2]
    answer = server.get(
        nsid, repo="alice.a.test", collection="app.bsky.feed.post", rkey=rkey
    )
    assert answer.json["cid"] == mine["cid"]
    assert len(first.requests) == count
