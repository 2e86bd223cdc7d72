"""Name servers that never respond, beside other lookups."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from network.errors import UnreachableError
from network.http.guarded_connector import GuardedResolver, SystemLookup
from network.http.policy import Policy


async def test_hanging_lookups_do_not_block_other_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()

    def ask(host: str, *_: Any, **__: Any) -> list[Any]:
        if host.endswith(".pit"):
            # The system tries for much longer than our timeout.
            ended.wait(20)
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    lookup = SystemLookup()
    resolver = GuardedResolver(Policy(connect_timeout=0.3), lookup)

    async def name_many(number: int) -> None:
        # One after the other, each after the timeout of the one before.
        for n in range(3):
            with contextlib.suppress(UnreachableError):
                await resolver.resolve(f"a{n}.b{number}.pit")

    pits = [asyncio.create_task(name_many(n)) for n in range(64)]
    try:
        for _ in range(4):
            started = time.monotonic()
            [found] = await resolver.resolve("plc.directory")
            assert found["host"] == "1.1.1.1"
            assert time.monotonic() - started < 0.3
            await asyncio.sleep(0.2)
    finally:
        ended.set()
        await asyncio.gather(*pits)
        lookup.close()
