from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from network.errors import XrpcError
from network.server.admission import (
    Admission,
    GuardPolicy,
    admission_of,
    resting,
    working,
)
from network.server.client_address import check_networks
from network.server.request_guard import RequestGuard

TOKEN = "Bearer aaaa.bbbb.cccc"
ALICE, BOB = "did:plc:alice", "did:plc:bob"
FEW = GuardPolicy(rate=0.5, burst=3)


def scope_of(
    peer: str | None, *forwarded: str, token: str = "", kind: str = "http"
) -> Scope:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    if token:
        headers.append((b"authorization", token.encode()))
    client = (peer, 1234) if peer else None
    return {
        "type": kind,
        "method": "GET",
        "path": "/",
        "headers": headers,
        "client": client,
        "extensions": {"websocket.http.response": {}},
    }


def ask(guard: RequestGuard, peer: str, *forwarded: str, token: str = "") -> Admission:
    admission = guard.admit(scope_of(peer, *forwarded, token=token))
    admission.close()
    return admission


@pytest.mark.parametrize(
    ("peer", "forwarded", "address", "trusted"),
    [
        ("1.2.3.4", (), "1.2.3.4", False),
        ("1.2.3.4", ("9.9.9.9",), "1.2.3.4", False),  # not our proxy
        ("127.0.0.1", (), "127.0.0.1", True),
        ("::1", (), "::/64", True),
        ("127.0.0.1", ("1.2.3.4",), "1.2.3.4", False),
        (
            "127.0.0.1",
            ("6.6.6.6, 1.2.3.4",),
            "1.2.3.4",
            False,
        ),  # the left one is forged
        ("127.0.0.1", ("6.6.6.6", "1.2.3.4"), "1.2.3.4", False),
        ("127.0.0.1", ("1.2.3.4, 10.0.0.7",), "1.2.3.4", False),  # two of our proxies
        ("127.0.0.1", ("1.2.3.4, 11.0.0.7",), "11.0.0.7", False),
        ("127.0.0.1", ("127.0.0.1",), "127.0.0.1", False),  # from a proxy
        ("127.0.0.1", ("nonsense",), "127.0.0.1", False),
        ("127.0.0.1", ("1.2.3.4, nonsense",), "127.0.0.1", False),
        ("127.0.0.1", ("1.2.3.4:80",), "127.0.0.1", False),
        ("127.0.0.1", ("",), "127.0.0.1", False),
        ("127.0.0.1", ("6.6.6.6," * 10_000 + "1.2.3.4",), "1.2.3.4", False),
        ("2001:db8:1:2:3:4:5:6", (), "2001:db8:1:2::/64", False),
        ("::ffff:1.2.3.4", (), "1.2.3.4", False),
        ("20.0.0.9", (), "20.0.0.9", True),  # a trusted PDS
        (None, (), "local", True),
        ("testclient", (), "local", True),
    ],
)
def test_client_is_the_last_untrusted_address(
    peer: str | None, forwarded: tuple[str, ...], address: str, trusted: bool
) -> None:
    policy = GuardPolicy(
        trusted_proxies=("127.0.0.0/8", "::1/128", "10.0.0.0/8"),
        trusted_clients=("127.0.0.0/8", "::1/128", "20.0.0.0/24"),
    )
    client = RequestGuard(policy).client_of(scope_of(peer, *forwarded))
    assert (client.address, client.trusted) == (address, trusted)


def test_each_address_has_its_own_bucket() -> None:
    now = [0.0]
    guard = RequestGuard(FEW, clock=lambda: now[0])
    for _ in range(3):
        ask(guard, "1.2.3.4")
    with pytest.raises(XrpcError) as caught:
        ask(guard, "1.2.3.4")
    assert (caught.value.name, caught.value.status) == ("RateLimitExceeded", 429)
    assert caught.value.headers["Retry-After"] == "2"
    assert caught.value.headers["RateLimit-Policy"] == "3;w=6"
    ask(guard, "1.2.3.5")
    now[0] = 2.0
    ask(guard, "1.2.3.4")


def test_forged_forwarded_header_shares_the_bucket() -> None:
    guard = RequestGuard(FEW)
    for number in range(3):
        ask(guard, "1.2.3.4", f"9.9.9.{number}")
    with pytest.raises(XrpcError):
        ask(guard, "1.2.3.4", "9.9.9.99")


def test_clients_behind_one_proxy_have_their_own_buckets() -> None:
    guard = RequestGuard(FEW)
    for number in range(50):
        ask(guard, "127.0.0.1", f"9.9.9.{number}")


def test_neighbours_of_one_ipv6_network_share_a_bucket() -> None:
    guard = RequestGuard(FEW)
    for number in range(3):
        ask(guard, f"2001:db8::{number}")
    with pytest.raises(XrpcError):
        ask(guard, "2001:db8::99")
    ask(guard, "2001:db8:0:1::1")


def test_users_of_one_pds_have_their_own_buckets() -> None:
    guard = RequestGuard(FEW, clock=lambda: 0.0)
    for did in (ALICE, BOB):
        for _ in range(3):
            ask_as(guard, did)
    with pytest.raises(XrpcError) as caught:
        ask_as(guard, ALICE)
    assert caught.value.status == 429
    # Requests without a token have their own share.
    ask(guard, "1.2.3.4")


def ask_as(guard: RequestGuard, did: str) -> None:
    admission = guard.admit(scope_of("1.2.3.4", token=TOKEN))
    try:
        admission.identify(did)
    finally:
        admission.close()


def test_unverified_token_costs_as_much_as_no_token() -> None:
    guard = RequestGuard(FEW, clock=lambda: 0.0)
    for _ in range(3):
        ask(guard, "1.2.3.4", token=TOKEN)
    with pytest.raises(XrpcError):
        ask(guard, "1.2.3.4", token=TOKEN)
    for _ in range(3):
        ask(guard, "1.2.3.5", token="Basic aaaa")
    with pytest.raises(XrpcError):
        ask(guard, "1.2.3.5", token="Basic aaaa")


def test_trusted_pds_has_thirty_shares_and_no_more() -> None:
    guard = RequestGuard(FEW, clock=lambda: 0.0)
    for _ in range(90):
        ask(guard, "127.0.0.1")
    with pytest.raises(XrpcError):
        ask(guard, "127.0.0.1")


def test_memory_of_the_guard_is_bounded() -> None:
    guard = RequestGuard(GuardPolicy(rate=0.001, burst=5, max_keys=10))
    for number in range(1_000):
        ask_anew = guard.admit(scope_of(f"1.2.{number // 256}.{number % 256}"))
        ask_anew.close()
    assert guard.shares.addresses.look("1.2.3.231").remaining == 4
    assert guard.shares.addresses.look("1.2.0.0").remaining == 5
    assert not guard.shares.requests


def test_client_has_a_limit_of_requests_and_sockets() -> None:
    guard = RequestGuard(GuardPolicy(at_once=2, sockets=1))
    with ExitStack() as held:
        for _ in range(2):
            held.callback(guard.admit(scope_of("1.2.3.4")).close)
        with pytest.raises(XrpcError):
            guard.admit(scope_of("1.2.3.4"))
        held.callback(guard.admit(scope_of("1.2.3.4", kind="websocket")).close)
        with pytest.raises(XrpcError):
            guard.admit(scope_of("1.2.3.4", kind="websocket"))
        guard.admit(scope_of("1.2.3.5", kind="websocket")).close()
    guard.admit(scope_of("1.2.3.4")).close()
    guard.admit(scope_of("1.2.3.4", kind="websocket")).close()


async def test_client_holds_only_its_part_of_the_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("network.server.admission._QUEUE_S", 0.05)
    guard = RequestGuard(threads=8)
    release = asyncio.Event()
    busy: list[int] = []

    async def hold(admission: Admission) -> None:
        async with admission.working():
            busy.append(1)
            await release.wait()

    asked = [guard.admit(scope_of("1.2.3.4")) for _ in range(4)]
    tasks = [asyncio.create_task(hold(admission)) for admission in asked]
    results = await asyncio.gather(*tasks[2:], return_exceptions=True)
    assert len(busy) == 2
    assert [getattr(result, "status", 0) for result in results] == [429, 429]
    other = asyncio.create_task(hold(guard.admit(scope_of("1.2.3.5"))))
    await asyncio.sleep(0)
    assert len(busy) == 3
    release.set()
    await asyncio.gather(*tasks[:2], other)
    assert not guard.shares.slots


async def test_many_accounts_of_one_address_leave_threads_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("network.server.admission._QUEUE_S", 0.05)
    guard = RequestGuard(threads=8)
    release = asyncio.Event()

    async def hold(number: int) -> None:
        admission = guard.admit(scope_of("1.2.3.4", token=TOKEN))
        admission.identify(f"did:web:{number}.example.com")
        async with admission.working():
            await release.wait()

    tasks = [asyncio.create_task(hold(number)) for number in range(8)]
    async with asyncio.timeout(20):
        results = await asyncio.gather(*tasks[6:], return_exceptions=True)
    assert [getattr(result, "status", 0) for result in results] == [429, 429]
    async with guard.admit(scope_of("1.2.3.5")).working():
        release.set()
    await asyncio.gather(*tasks[:6])
    assert not guard.shares.slots


async def test_resting_request_holds_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("network.server.admission._QUEUE_S", 0.05)
    guard = RequestGuard(threads=8)
    release = asyncio.Event()

    async def fetch() -> None:
        scope = scope_of("1.2.3.4")
        scope["bigworld.admission"] = guard.admit(scope)
        async with working(scope):
            async with resting(scope):
                await release.wait()
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(fetch()) for _ in range(5)]
    await asyncio.sleep(0.01)
    one, two = (guard.admit(scope_of("1.2.3.4")) for _ in range(2))
    async with one.working(), two.working():
        # Both slots are taken: requests that return wait, and get a 429.
        release.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(result, "status", 0) for result in results] == 5 * [429]
    assert not guard.shares.slots


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    admission = admission_of(scope)
    assert admission is not None
    await PlainTextResponse(admission.key)(scope, receive, send)


def run(guard: RequestGuard, scope: Scope) -> tuple[int, dict[str, str], str]:
    """Return status, headers and type of the middleware's first message."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(guard.middleware(echo, hold_slots=True)(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[0]["type"]


def test_middleware_shows_the_quota_and_refuses_requests_and_sockets() -> None:
    guard = RequestGuard(FEW, clock=lambda: 0.0)
    status, headers, _ = run(guard, scope_of("1.2.3.4"))
    assert (status, headers["ratelimit-remaining"]) == (200, "2")
    assert "retry-after" not in headers
    run(guard, scope_of("1.2.3.4"))
    run(guard, scope_of("1.2.3.4"))
    status, headers, _ = run(guard, scope_of("1.2.3.4"))
    assert (status, headers["retry-after"]) == (429, "2")
    status, headers, kind = run(guard, scope_of("1.2.3.4", kind="websocket"))
    assert (status, kind) == (429, "websocket.http.response.start")
    assert not guard.shares.requests
    assert not guard.shares.sockets


def test_bad_network_of_a_setting_is_named() -> None:
    check_networks("trusted_proxies", ["10.0.0.0/8", "::1"])
    with pytest.raises(ValueError, match=r"trusted_proxies: '10\.0\.0\.1/8'"):
        check_networks("trusted_proxies", ["10.0.0.1/8"])
