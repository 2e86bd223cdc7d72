"""Notice that a client is gone while a thread still works on its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

from starlette.requests import Request


@asynccontextmanager
async def watch_client(request: Request, gone: Event) -> AsyncIterator[None]:
    """Set `gone` when the client disconnects before the block ends.

    The body of the request must have been read, or there must be none.
    """

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
