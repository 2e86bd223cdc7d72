"""Every address of the table, on every kind of call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest
from test_network_addresses import ALLOWED, REFUSED

from network.errors import ForbiddenAddressError, UnreachableError
from network.http.client import Fetcher
from network.http.guarded_connector import GuardedResolver
from network.http.policy import HostLimits, Policy
from network.streams.stream_client import StreamClient

POLICY = Policy(
    limits=HostLimits(rate=1e6, burst=10_000, concurrency=100), stream_dials_per_s=1e6
)
PUBLIC = "1.1.1.1"
LOOPBACK = {"127.0.0.1", "127.0.0.53", "127.255.255.254", "::1"}

Call = Callable[[Fetcher, str], Coroutine[Any, Any, Any]]


class Lookup:
    """A table of names."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.names = names

    async def __call__(self, host: str) -> Sequence[str]:
        return self.names[host]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the dialled addresses; no connection leaves this machine."""
    addresses: list[str] = []

    async def sock_connect(self: Any, sock: Any, address: Any) -> None:
        addresses.append(address[0])
        raise OSError("this test has no internet")

    monkeypatch.setattr(
        asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", sock_connect
    )
    return addresses


async def get(fetcher: Fetcher, host: str) -> None:
    await fetcher.get(f"https://{host}/")


async def post(fetcher: Fetcher, host: str) -> None:
    await fetcher.post(f"https://{host}/", body=b"")


async def download(fetcher: Fetcher, host: str) -> None:
    async with fetcher.stream(f"https://{host}/", max_bytes=10):
        pass


async def subscribe(fetcher: Fetcher, host: str) -> None:
    async with StreamClient(fetcher, f"wss://{host}/", max_failures=1) as stream:
        async for _ in stream:
            pass


CALLS: list[Call] = [get, post, download, subscribe]


def call_all(
    call: Call, names: dict[str, list[str]], policy: Policy
) -> dict[str, type[BaseException]]:
    """Return the error of each call, by name."""
    ends: dict[str, type[BaseException]] = {}

    async def work() -> None:
        async with Fetcher(policy, lookup=Lookup(names)) as fetcher:
            for name in names:
                with pytest.raises((ForbiddenAddressError, UnreachableError)) as caught:
                    await call(fetcher, name)
                ends[name] = caught.type

    asyncio.run(work())
    return ends


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_no_name_reaches_a_refused_address(call: Call, dialled: list[str]) -> None:
    names = {f"n{n}.net": [address] for n, address in enumerate(REFUSED)}
    assert len(names) >= 60
    ends = call_all(call, names, POLICY)
    assert set(ends.values()) == {ForbiddenAddressError}
    assert dialled == []


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_mixed_lookups_dial_only_public_addresses(
    call: Call, dialled: list[str]
) -> None:
    names: dict[str, list[str]] = {}
    for n, address in enumerate(REFUSED):
        names[f"first{n}.net"] = [address, PUBLIC]
        names[f"last{n}.net"] = [PUBLIC, address]
    ends = call_all(call, names, POLICY)
    assert set(ends.values()) == {UnreachableError}
    assert set(dialled) == {PUBLIC}
    assert len(dialled) == len(names)


def test_public_addresses_are_dialled(dialled: list[str]) -> None:
    # Without this, a guard that refuses everything would pass.
    names = {f"n{n}.net": [address] for n, address in enumerate(ALLOWED)}
    ends = call_all(get, names, POLICY)
    assert set(ends.values()) == {UnreachableError}
    assert dialled == ALLOWED


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_refused_addresses_in_urls_are_refused(call: Call, dialled: list[str]) -> None:
    hosts = [f"[{text}]" if ":" in text else text for text in REFUSED]
    ends = call_all(call, {host: [PUBLIC] for host in hosts}, POLICY)
    assert set(ends.values()) == {ForbiddenAddressError}
    assert dialled == []


def test_development_dials_loopback_only(dialled: list[str]) -> None:
    names = {f"n{n}.net": [address] for n, address in enumerate(REFUSED)}
    ends = call_all(get, names, replace(POLICY, allow_loopback=True))
    assert set(dialled) == LOOPBACK
    forbidden = sum(end is ForbiddenAddressError for end in ends.values())
    assert forbidden == len(names) - len(LOOPBACK)


async def test_resolver_returns_no_refused_address() -> None:
    """Check the resolver alone, since the socket checks again."""
    names = {f"n{n}.net": [address] for n, address in enumerate(REFUSED)}
    mixed = {f"m{n}.net": [PUBLIC, address] for n, address in enumerate(REFUSED)}
    resolver = GuardedResolver(POLICY, Lookup(names | mixed))
    for name in names:
        with pytest.raises(ForbiddenAddressError):
            await resolver.resolve(name, 443)
    for name in mixed:
        found = await resolver.resolve(name, 443)
        assert [each["host"] for each in found] == [PUBLIC]
