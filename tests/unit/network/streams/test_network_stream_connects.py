"""Connects of stream clients: refusals, retries, pauses."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_peers import BINARY, Reader, Writer, frame, http, raw_peer, reply, upgrade
from stream_peers import DEV, QUICK, Watch, read, sending, url_of

from network.errors import ForbiddenAddressError, UnreachableError
from network.http.client import Fetcher
from network.http.policy import Policy
from network.streams.stream_client import StreamClient, StreamRefusedError
from network.streams.stream_events import Disconnected, DisconnectReason, StreamTimes


@pytest.mark.parametrize(
    "status", [300, 301, 302, 307, 308, 400, 401, 403, 404, 405, 410, 426, 501]
)
async def test_refusals_are_final(status: int) -> None:
    answer = http(b"<html>no", f"{status} No", "Location: /elsewhere\r\n")
    watch = Watch()
    async with (
        raw_peer(reply(answer)) as peer,
        Fetcher(DEV) as fetcher,
        StreamClient(fetcher, url_of(peer), on_event=watch, times=QUICK) as stream,
    ):
        with pytest.raises(StreamRefusedError) as caught:
            await anext(stream)
        assert caught.value.status == status
        assert peer.connections == 1
    assert watch.reasons == [DisconnectReason.REFUSED]
    assert watch.events[-1].retry_in is None  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [200, 204, 408, 425, 500, 502, 503, 504, 520])
async def test_other_statuses_are_retried(status: int) -> None:
    answer = http(b"<html>later", f"{status} Later")
    watch = Watch()
    with pytest.raises(UnreachableError):
        await read(reply(answer), 1, watch, max_failures=3)
    assert len(watch.reasons) == 3
    failures = [e.failures for e in watch.events if isinstance(e, Disconnected)]
    assert failures == [1, 2, 3]


@pytest.mark.parametrize(
    ("status", "value", "least", "most"),
    [
        (429, "7", 6.5, 7.0),
        (429, None, 4.5, 5.0),
        (429, "-1", 4.5, 5.0),
        (429, "9e9", 4.5, 5.0),
        (429, "9000000000", 3_599.0, 3_600.0),
        (429, "date", 85.0, 90.0),
        (503, "7", 6.5, 7.0),
        (503, None, 0.0, 0.0),
    ],
)
async def test_retry_after_is_obeyed(
    status: int, value: str | None, least: float, most: float
) -> None:
    text = formatdate(time.time() + 90, usegmt=True) if value == "date" else value
    headers = f"Retry-After: {text}\r\n" if text else ""
    async with (
        raw_peer(reply(http(b"", f"{status} Busy", headers))) as peer,
        Fetcher(DEV) as fetcher,
        StreamClient(fetcher, url_of(peer), times=QUICK, max_failures=1) as stream,
    ):
        with pytest.raises(UnreachableError):
            await anext(stream)
        paused = fetcher.budgets.paused_for(f"localhost:{peer.port}")
        assert least <= paused <= most


async def test_redirects_and_proxies_are_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_peer(sending()) as canary:
        where = f"Location: http://localhost:{canary.port}/\r\n"
        for name in ("HTTP_PROXY", "WS_PROXY", "ALL_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        with pytest.raises(StreamRefusedError):
            await read(reply(http(b"", "302 Found", where)), 1)
        assert canary.connections == 0


async def test_streams_use_the_address_guard() -> None:
    async with raw_peer(sending()) as canary, Fetcher(Policy()) as fetcher:
        for url in (
            f"ws://localhost:{canary.port}/",
            f"wss://127.0.0.1:{canary.port}/",
            f"wss://0x7f000001:{canary.port}/",
            f"wss://host.net:{canary.port}/",
        ):
            with pytest.raises(ForbiddenAddressError):
                await anext(StreamClient(fetcher, url))
        assert canary.connections == 0


async def test_unreachable_host_raises_after_max_failures() -> None:
    async with raw_peer(sending()) as peer:
        pass
    watch = Watch()
    async with Fetcher(DEV) as fetcher:
        stream = StreamClient(
            fetcher, url_of(peer), on_event=watch, times=QUICK, max_failures=4
        )
        with pytest.raises(UnreachableError):
            await anext(stream)
    assert watch.reasons == [DisconnectReason.UNREACHABLE] * 4


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_are_random_and_bounded(failures: int, fraction: float) -> None:
    times = StreamTimes()
    most = times.pause(failures, 1.0)
    assert 0 <= times.pause(failures, fraction) <= most
    assert 1.0 <= most <= 300.0


def test_pauses_double_up_to_five_minutes() -> None:
    times = StreamTimes()
    assert [times.pause(n, 1.0) for n in range(1, 11)] == [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 300,
    ]  # fmt: skip


async def test_many_dead_hosts_share_one_bucket_of_dials() -> None:
    policy = Policy(allow_loopback=True, stream_dials_per_s=50.0)
    async with raw_peer(reply(http(b"", "500 Oops"))) as peer:
        async with Fetcher(policy) as fetcher:
            streams = [
                StreamClient(fetcher, url_of(peer), times=QUICK) for _ in range(60)
            ]
            tasks = [asyncio.create_task(anext(s)) for s in streams]
            started = time.monotonic()
            await asyncio.sleep(1.0)
            for stream in streams:
                await stream.aclose()
            await asyncio.gather(*tasks, return_exceptions=True)
            elapsed = time.monotonic() - started
        assert 50 < peer.connections <= 50 + 50 * elapsed


def test_stable_connection_clears_the_failures() -> None:
    async def work(stable_after: float) -> list[int]:
        async def talk(reader: Reader, writer: Writer) -> None:
            await upgrade(reader, writer)
            writer.write(frame(BINARY, b"x"))
            await asyncio.sleep(0.1)

        watch = Watch()
        times = StreamTimes(first=0.01, longest=0.01, stable_after=stable_after)
        await read(talk, 4, watch, times=times)
        return [e.failures for e in watch.events if isinstance(e, Disconnected)]

    assert asyncio.run(work(0.05)) == [1, 1, 1]
    assert asyncio.run(work(10.0)) == [1, 2, 3]
