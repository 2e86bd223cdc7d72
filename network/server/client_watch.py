"""Detection of clients that disconnect while a thread works on their response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from threading import Event
from typing import TypeVar

from starlette.requests import Request

T = TypeVar("T")


class ClientGoneError(Exception):
    """Work that was stopped because its client disconnected."""


@asynccontextmanager
async def watch_client(
    request: Request, gone: Event, on_gone: Callable[[], object] = lambda: None
) -> AsyncIterator[None]:
    """Set `gone` when the client disconnects before the block ends.

    The body of the request must have been read, or there must be none.
    """

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()
        on_gone()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def run_while_connected(request: Request, gone: Event, work: Awaitable[T]) -> T:
    """Return the result of `work`; cancel it when the client disconnects.

    For work that changes nothing. Raises ClientGoneError.
    """
    task = asyncio.ensure_future(work)
    try:
        async with watch_client(request, gone, task.cancel):
            return await task
    except asyncio.CancelledError:
        if gone.is_set():
            raise ClientGoneError from None
        raise
    finally:
        task.cancel()
