"""A client of a running directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import aiohttp
from plc_accounts import NOW

from plc.operation_format import LegacyCreate, Operation, Tombstone, operation_json


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Client:
    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self.clock = clock

    def get(self, path: str, data: bytes | None = None, **headers: str) -> Reply:
        request = Request(self.url + path, data=data, headers=headers)
        try:
            with urlopen(request, timeout=10) as response:
                return Reply(response.status, response.read(), dict(response.headers))
        except HTTPError as error:
            with error:
                return Reply(error.code, error.read(), dict(error.headers))

    def post(
        self, did: str, operation: Operation | Tombstone | LegacyCreate, **headers: str
    ) -> Reply:
        data = json.dumps(operation_json(operation)).encode()
        return self.get(f"/{did}", data, **headers)

    async def listen(
        self, query: str, count: int, meanwhile: Callable[[], object] | None = None
    ) -> tuple[list[Any], str | None]:
        """Return up to `count` messages of the stream, and the close reason if any.

        `meanwhile` is run once the stream is open.
        """
        messages: list[Any] = []
        async with (
            asyncio.timeout(10),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/export/stream{query}") as socket,
        ):
            if meanwhile is not None:
                await asyncio.to_thread(meanwhile)
            while len(messages) < count:
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return messages, message.extra
                messages.append(json.loads(message.data))
        return messages, None
