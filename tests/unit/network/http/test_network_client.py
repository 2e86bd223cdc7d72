from __future__ import annotations

import asyncio
import gzip
import random
import socket
import time
import tracemalloc
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from loopback_peers import Reader, Writer, http, raw_peer, read_request, reply

from network.errors import (
    BadResponseError,
    RateLimitedError,
    TimedOutError,
    TooLargeError,
    UnreachableError,
)
from network.http.client import Fetcher
from network.http.inflate import BodyReader
from network.http.policy import HostLimits, Policy

QUICK = HostLimits(rate=1e6, burst=10_000, concurrency=300, max_wait=2.0)
DEV = Policy(allow_loopback=True, limits=QUICK)


async def fetch(url: str, policy: Policy = DEV, **options: Any) -> Any:
    async with Fetcher(policy) as fetcher:
        return await fetcher.get(url, **options)


async def get(parts: Sequence[bytes], policy: Policy = DEV, **options: Any) -> Any:
    """GET / from a peer that sends `parts`."""

    async with raw_peer(reply(*parts)) as peer:
        return await fetch(peer.url, policy, **options)


# Requests and responses.


async def test_get_returns_the_response() -> None:
    seen: list[bytes] = []

    async def talk(reader: Reader, writer: Writer) -> None:
        for _ in range(2):
            seen.append(await read_request(reader))
            writer.write(http(b"hello", headers="Set-Cookie: a=b\r\nX-A: 1\r\n"))

    async with raw_peer(talk) as peer, Fetcher(DEV, user_agent="Test/1") as fetcher:
        for _ in range(2):
            fetched = await fetcher.get(
                f"{peer.url}/x?q=%2F", headers={"Accept-Language": "ja"}
            )
        assert fetched.body == b"hello"
        assert fetched.status == 200
        assert fetched.headers["x-a"] == "1"
        assert peer.connections == 1  # kept alive
    for request in seen:
        assert request.startswith(b"GET /x?q=%2F HTTP/1.1\r\n")
        lines = request.lower().split(b"\r\n")
        assert b"user-agent: test/1" in lines
        assert b"accept-encoding: identity" in lines
        assert b"accept-language: ja" in lines
        assert not any(line.startswith(b"cookie") for line in lines)


async def test_post_sends_its_body_and_follows_no_redirect() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        body = await reader.readexactly(3)
        writer.write(http(body, "307 X", "Location: /again\r\n"))

    async with raw_peer(talk) as peer, Fetcher(DEV) as fetcher:
        fetched = await fetcher.post(peer.url, body=b"abc")
    assert (fetched.status, fetched.body) == (307, b"abc")


async def test_error_status_is_returned() -> None:
    fetched = await get([http(b"{}", "500 Oops")])
    assert (fetched.status, fetched.body) == (500, b"{}")


async def test_closed_port_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError):
            await fetch(f"http://localhost:{unused.getsockname()[1]}/")


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"HTTP/1.1 200 OK\r\n"],
        [http(b"short", length=50)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"],
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b"x")[:5]],
        [b"\x00\x01\x02garbage\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000 + b"\r\n"],
        [http(b"x", headers="Content-Encoding: br\r\n")],
        [http(b"not gzip", headers="Content-Encoding: gzip\r\n")],
    ],
)
async def test_broken_responses_are_network_errors(parts: list[bytes]) -> None:
    with pytest.raises((UnreachableError, BadResponseError)):
        await get(parts)


async def test_json_of_a_response_is_strict() -> None:
    assert (await get([http(b'{"a": 1}')])).json() == {"a": 1}
    for body in (b'{"a": NaN}', b'{"a":1,"a":2}', b"<html>", b"", b'"\\ud800"'):
        with pytest.raises(BadResponseError):
            (await get([http(body)])).json()


# Sizes.


async def test_body_size_is_capped() -> None:
    assert (await get([http(b"x" * 1_000)], max_bytes=1_000)).body == b"x" * 1_000
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for parts in (
        [http(b"x" * 1_001)],
        [http(b"", length=10**12)],
        [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000],
        [chunked + b"1388\r\n" + b"x" * 5_000 + b"\r\n0\r\n\r\n"],
    ):
        with pytest.raises(TooLargeError):
            await get(parts, max_bytes=1_000)


@pytest.mark.parametrize("name", ["gzip", "deflate", "x-gzip"])
async def test_unrequested_compression_is_inflated_under_the_cap(name: str) -> None:
    pack = zlib.compress if name == "deflate" else gzip.compress
    headers = f"Content-Encoding: {name}\r\n"
    small = await get([http(pack(b"y" * 900_000), headers=headers)], max_bytes=900_000)
    assert small.body == b"y" * 900_000
    with pytest.raises(TooLargeError):
        await get([http(pack(b"\0" * 60_000_000), headers=headers)], max_bytes=900_000)


def test_inflating_takes_small_steps() -> None:
    reader = BodyReader("gzip", 10_000_000, 200)
    text = bytes(random.Random(1).choices(b"ab", k=5_000_000))
    pieces = reader.feed(gzip.compress(text, 1))
    assert sum(map(len, pieces)) == 5_000_000
    assert max(map(len, pieces)) <= 65_536
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            BodyReader("gzip", 100_000, 200).feed(bomb)
        # A high ratio is refused also under a large cap.
        with pytest.raises(TooLargeError, match="100 times"):
            BodyReader("gzip", 2**32, 200).feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# Time.


async def test_slow_peers_time_out() -> None:
    policy = Policy(
        allow_loopback=True,
        limits=QUICK,
        connect_timeout=0.1,
        first_byte_timeout=0.2,
        total_timeout=0.5,
    )

    async def drip(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def silent(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(60)

    for talk, least, most in ((silent, 0.15, 1.0), (drip, 0.45, 1.5)):
        async with raw_peer(talk) as peer:
            started = time.monotonic()
            with pytest.raises(TimedOutError):
                await fetch(peer.url, policy)
            assert least < time.monotonic() - started < most


async def test_tar_pits_do_not_block_other_hosts() -> None:
    async def pit(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(60)

    async with (
        raw_peer(pit, "0.0.0.0") as trap,
        raw_peer(reply(http(b"ok"), then_close=False)) as honest,
        Fetcher(DEV) as fetcher,
    ):
        stuck = [
            asyncio.create_task(fetcher.get(f"http://127.0.1.{number}:{trap.port}/"))
            for number in range(200)
        ]
        for _ in range(1_000):
            if trap.connections == 200:
                break
            await asyncio.sleep(0.01)
        assert trap.connections == 200
        for _ in range(5):
            await asyncio.gather(*(fetcher.get(honest.url) for _ in range(50)))
        # All were served before the first pit timed out.
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


# Redirects.


def redirecting(hops: int) -> Any:
    async def talk(reader: Reader, writer: Writer) -> None:
        while True:
            request = await read_request(reader)
            number = int(request.split(b" ")[1].strip(b"/") or b"0")
            if number >= hops:
                writer.write(http(request))
            else:
                where = f"Location: /{number + 1}\r\n"
                writer.write(http(b"moved", "302 Found", where))

    return talk


async def test_redirects_are_off_by_default_and_end_at_three() -> None:
    async with raw_peer(redirecting(3)) as peer:
        assert (await fetch(peer.url)).status == 302
        fetched = await fetch(peer.url, redirects=3)
        assert fetched.status == 200
        assert fetched.url == f"{peer.url}/3"
        with pytest.raises(BadResponseError):
            await fetch(peer.url, redirects=2)
    async with raw_peer(redirecting(4)) as peer:
        with pytest.raises(BadResponseError):
            await fetch(peer.url, redirects=100)


async def test_redirect_to_another_origin_drops_secrets() -> None:
    async with raw_peer(redirecting(0)) as other:

        async def talk(reader: Reader, writer: Writer) -> None:
            request = await read_request(reader)
            assert b"Authorization: Bearer s3cret" in request
            where = f"Location: {other.url}/9\r\n"
            writer.write(http(b"", "302 Found", where))

        async with raw_peer(talk) as peer:
            fetched = await fetch(
                peer.url,
                redirects=1,
                headers={"Authorization": "Bearer s3cret", "X-Open": "yes"},
            )
    assert b"X-Open: yes" in fetched.body
    assert b"s3cret" not in fetched.body


# Budgets.


async def test_retry_after_is_learned_and_obeyed() -> None:
    busy = http(b"{}", "429 Too Many", "Retry-After: 600\r\n")
    async with raw_peer(reply(busy)) as peer, Fetcher(DEV) as fetcher:
        for _ in range(3):
            with pytest.raises(RateLimitedError) as caught:
                await fetcher.get(peer.url)
            assert 590 < caught.value.retry_after <= 600
        assert peer.connections == 1


async def test_503_with_retry_after_is_returned_and_learned() -> None:
    busy = http(b"{}", "503 Busy", "Retry-After: 600\r\n")
    async with raw_peer(reply(busy)) as peer, Fetcher(DEV) as fetcher:
        assert (await fetcher.get(peer.url)).status == 503
        with pytest.raises(RateLimitedError):
            await fetcher.get(peer.url)


# Streams.


async def drain(url: str, policy: Policy = DEV, **options: Any) -> bytes:
    options.setdefault("max_bytes", 10**9)
    async with Fetcher(policy) as fetcher, fetcher.stream(url, **options) as body:
        return b"".join([chunk async for chunk in body])


async def test_stream_returns_chunks() -> None:
    big = bytes(range(256)) * 20_000
    async with raw_peer(reply(http(big))) as peer:
        assert await drain(peer.url) == big
    text = bytes(random.Random(2).choices(b"ab", k=5_000_000))
    packed = http(gzip.compress(text, 1), headers="Content-Encoding: gzip\r\n")
    async with raw_peer(reply(packed)) as peer:
        assert await drain(peer.url, max_bytes=len(text)) == text
        with pytest.raises(TooLargeError):
            await drain(peer.url, max_bytes=len(text) - 1)
    async with raw_peer(reply(http(big, length=len(big) + 1))) as peer:
        with pytest.raises(UnreachableError):
            await drain(peer.url)
    async with raw_peer(reply(http(b'{"error":"X"}', "400 Bad"))) as peer:
        with pytest.raises(BadResponseError) as caught:
            await drain(peer.url)
        assert caught.value.body == b'{"error":"X"}'


async def test_stream_below_the_floor_speed_times_out() -> None:
    policy = Policy(
        allow_loopback=True, limits=QUICK, floor_bytes_per_s=10_000, floor_window=0.3
    )

    def sender(size: int) -> Any:
        async def talk(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(40):
                writer.write(b"x" * size)
                await writer.drain()
                await asyncio.sleep(0.02)

        return talk

    async with raw_peer(sender(100)) as peer:  # 5 kB/s
        with pytest.raises(TimedOutError):
            await drain(peer.url, policy)
    async with raw_peer(sender(2_000)) as peer:  # 100 kB/s
        assert len(await drain(peer.url, policy)) == 80_000
    # A slow reader of ours is not a slow peer.
    async with (
        raw_peer(reply(http(b"x" * 4_000_000))) as peer,
        Fetcher(policy) as fetcher,
        fetcher.stream(peer.url, max_bytes=10**7) as body,
    ):
        size = 0
        async for chunk in body:
            size += len(chunk)
            await asyncio.sleep(0.1)
    assert size == 4_000_000


async def test_unfinished_stream_frees_its_slot() -> None:
    limits = HostLimits(rate=1e6, burst=100, concurrency=1, max_wait=0.2)
    policy = Policy(allow_loopback=True, limits=limits)
    async with (
        raw_peer(reply(http(b"x" * 4_000_000))) as peer,
        Fetcher(policy) as fetcher,
    ):
        for _ in range(3):
            async with fetcher.stream(peer.url, max_bytes=10**7) as body:
                async for _chunk in body:
                    break
        with pytest.raises(ZeroDivisionError):
            async with fetcher.stream(peer.url, max_bytes=10**7):
                raise ZeroDivisionError
