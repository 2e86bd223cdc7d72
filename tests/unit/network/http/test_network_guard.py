"""The guard of addresses, redirects and certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loopback_peers import Reader, Writer, http, raw_peer, reply, write_certificate

from network.errors import ForbiddenAddressError, NetworkError, UnreachableError
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.http.urls import Target

QUICK = HostLimits(rate=1e6, burst=10_000, concurrency=300, max_wait=2.0)
DEV = Policy(allow_loopback=True, limits=QUICK)


async def fetch(url: str, policy: Policy = DEV, **options: Any) -> Any:
    async with Fetcher(policy) as fetcher:
        return await fetcher.get(url, **options)


SHAPES = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.0.0.2:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7F.1:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://00000177.0.0.1:{port}/",
    "http://①②⑦.0.0.1:{port}/",
    "http://１２７.０.０.１:{port}/",
    "http://127。0。0。1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://ⓛocalhost:{port}/",
    "http://a.localhost:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::]:{port}/",
    "http://good.net@127.0.0.1:{port}/",
    "http://good.net:443@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@good.net/",
    "http://good.net\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@good.net/",
    "http://127.0.0.1%00.good.net:{port}/",
    "http:127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http:////127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}/",
    "wss://localhost:{port}/",
    "https://127.0.0.1:{port}/",
    "https://localhost:{port}/",
    "https://loop.net:{port}/",
    "http://loop.net:{port}/",
]


class Lookup:
    """A table of names; a list of lists gives another result each time."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): list(v) for name, v in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise OSError(f"no such name: {host}")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the dialled addresses; only loopback is connected."""
    addresses: list[str] = []
    real = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def sock_connect(self: Any, sock: Any, address: Any) -> None:
        addresses.append(address[0])
        if not address[0].startswith("127."):
            raise OSError("this test has no internet")
        await real(self, sock, address)

    monkeypatch.setattr(
        asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", sock_connect
    )
    return addresses


async def nobody(reader: Reader, writer: Writer) -> None:
    writer.write(http(b"you should not be here"))


async def test_no_url_spelling_reaches_loopback(
    dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = Lookup(loop_net=[["127.0.0.1"]])
    async with (
        raw_peer(nobody) as canary,
        Fetcher(Policy(limits=QUICK), lookup=lookup) as fetcher,
    ):
        proxy = f"http://127.0.0.1:{canary.port}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy)
        for shape in [*SHAPES, "https://loop.net/", "https://loop.net:443/"]:
            url = shape.format(port=canary.port)
            with pytest.raises(ForbiddenAddressError):
                await fetcher.get(url)
            with pytest.raises(ForbiddenAddressError):
                await fetcher.post(url, body=b"")
            with pytest.raises(ForbiddenAddressError):
                async with fetcher.stream(url, max_bytes=10):
                    pass
        assert canary.connections == 0
        assert dialled == []


async def test_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_peer(nobody) as canary, raw_peer(reply(http(b"ok"))) as peer:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for spelling in (name, name.lower()):
                monkeypatch.setenv(spelling, f"http://127.0.0.1:{canary.port}")
        assert (await fetch(peer.url)).body == b"ok"
        assert canary.connections == 0


async def test_canary_is_reached_without_the_guard() -> None:
    async with raw_peer(nobody) as canary:
        await fetch(f"http://127.0.0.1:{canary.port}/")
        assert canary.connections == 1


async def test_only_checked_addresses_are_dialled(dialled: list[str]) -> None:
    """Resolve a name that changes to loopback, and mixed results."""
    lookup = Lookup(
        rebind_net=[["8.8.8.8"], ["127.0.0.1"]],
        mixed_net=[["127.0.0.1", "::1", "10.0.0.1", "1.1.1.1", "64:ff9b::7f00:1"]],
        inside_net=[["10.0.0.1", "fd00::1"]],
        nothing_net=[[]],
    )
    async with Fetcher(Policy(limits=QUICK), lookup=lookup) as fetcher:
        # Without a DNS cache, so that the second lookup happens.
        fetcher.session.connector._cached_hosts._ttl = 0  # type: ignore[union-attr]
        with pytest.raises(UnreachableError):
            await fetcher.get("https://rebind.net/")
        with pytest.raises(ForbiddenAddressError):
            await fetcher.get("https://rebind.net/")
        with pytest.raises(UnreachableError):
            await fetcher.get("https://mixed.net/")
        with pytest.raises(ForbiddenAddressError):
            await fetcher.get("https://inside.net/")
        with pytest.raises(UnreachableError):
            await fetcher.get("https://nothing.net/")
        with pytest.raises(UnreachableError):
            await fetcher.get("https://unknown.net/")
    assert dialled == ["8.8.8.8", "1.1.1.1"]
    # One lookup per connection: the checked address is the dialled one.
    assert lookup.asked.count("rebind.net") == 2


async def test_socket_refuses_a_bad_address_of_the_resolver(
    dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check the socket alone, against an address that skips the resolver."""

    async def resolve_badly(self: Any, host: str, port: int, family: int) -> Any:
        answer = {"hostname": host, "host": "127.0.0.1", "port": port}
        return [{**answer, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async with Fetcher(Policy(limits=QUICK)) as fetcher:
        monkeypatch.setattr(
            "network.http.guarded_connector.GuardedResolver.resolve", resolve_badly
        )
        with pytest.raises(ForbiddenAddressError):
            await fetcher.get("https://good.net/")
    assert dialled == []


@dataclass(frozen=True)
class OneHole(Policy):
    """A policy that takes 127.0.0.2 for public, so that it can redirect elsewhere."""

    def parse(self, url: str) -> Target:
        if url.startswith("http://origin.net:"):
            return Target("http", "origin.net", int(url.split(":")[2]), "/", "")
        return super().parse(url)

    def may_dial(self, address: str) -> bool:
        return address == "127.0.0.2" or super().may_dial(address)


async def test_redirect_to_loopback_makes_no_connection(dialled: list[str]) -> None:
    lookup = Lookup(origin_net=[["127.0.0.2"]], loop_net=[["127.0.0.1"]])
    async with (
        raw_peer(nobody) as canary,
        Fetcher(OneHole(limits=QUICK), lookup=lookup) as fetcher,
    ):
        shapes = [*SHAPES, "https://loop.net/", "http://loop.net/"]
        for status in ("301", "302", "303", "307", "308"):
            for shape in shapes if status == "302" else shapes[:3]:
                where = shape.format(port=canary.port)
                headers = f"Location: {where}\r\n"
                answer = http(b"", f"{status} Moved", headers)
                async with raw_peer(reply(answer), "127.0.0.2") as origin:
                    with pytest.raises(NetworkError):
                        await fetcher.get(
                            f"http://origin.net:{origin.port}", redirects=3
                        )
                    assert origin.connections == 1
        assert canary.connections == 0
    assert set(dialled) == {"127.0.0.2"}


async def test_tls_names_the_host_and_checks_the_certificate(tmp_path: Path) -> None:
    pem = write_certificate("pds.localhost", tmp_path)
    names: list[str | None] = []

    def remember(connection: Any, name: str | None, context: Any) -> None:
        names.append(name)

    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    serving.sni_callback = remember

    async with raw_peer(reply(http(b"sealed")), tls=serving) as peer:
        trusting = ssl.create_default_context(cafile=str(pem))
        async with Fetcher(DEV, tls=trusting) as fetcher:
            url = f"https://pds.localhost:{peer.port}/"
            assert (await fetcher.get(url)).body == b"sealed"
            with pytest.raises(UnreachableError):
                await fetcher.get(f"https://other.localhost:{peer.port}/")
        async with Fetcher(DEV) as fetcher:
            with pytest.raises(UnreachableError):
                await fetcher.get(url)
    assert names == ["pds.localhost", "other.localhost", "pds.localhost"]
