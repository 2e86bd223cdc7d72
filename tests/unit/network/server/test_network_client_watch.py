"""Clients that disconnect while a thread works on their response."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from network.server.listener import serving
from network.xrpc.server import Call, XrpcServer
from protocol.lexicon import Catalog

CATALOG = Catalog.load()
SEARCH = "app.bsky.feed.searchPosts"
CREATE = "com.atproto.server.createSession"
BODY = b'{"identifier":"a.test","password":"p"}'


@pytest.mark.parametrize(
    ("nsid", "request_text"),
    [
        (SEARCH, f"GET /xrpc/{SEARCH}?q=x HTTP/1.1\r\nhost: x\r\n\r\n".encode()),
        (
            CREATE,
            f"POST /xrpc/{CREATE} HTTP/1.1\r\nhost: x\r\n"
            f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
            "".encode()
            + BODY,
        ),
    ],
)
@pytest.mark.parametrize("leaves", [True, False])
async def test_handler_sees_that_its_client_disconnected(
    nsid: str, request_text: bytes, leaves: bool
) -> None:
    started, go_on, finished = (threading.Event() for _ in range(3))
    ended: list[bool] = []

    def handler(call: Call) -> Any:
        started.set()
        if leaves:
            call.gone.wait(10)
        else:
            go_on.wait(10)
        ended.append(call.is_client_gone())
        finished.set()
        return {"posts": []}

    server = XrpcServer(CATALOG)
    server.add(nsid, handler)
    async with serving(server.app()) as url:
        client = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))
        client.sendall(request_text)
        await asyncio.to_thread(started.wait, 10)
        if leaves:
            client.close()
        else:
            go_on.set()
        await asyncio.to_thread(finished.wait, 10)
        client.close()
    assert ended == [leaves]
