"""Servers of ASGI apps under uvicorn: as the program, or beside other work."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from network.server.connections import (
    BoundedHttp,
    BoundedWebSocket,
    ConnectionLimits,
    Connections,
)

LOOPBACK: Final = "127.0.0.1"
_KEEP_ALIVE: Final = 30
_GRACE: Final = 5
_TICK: Final = 0.1
_BACKLOG: Final = 2_048
# Subscribers of event streams send at most a list of wanted accounts.
_MAX_RECEIVED_FRAME: Final = 524_288


def server_config(
    app: ASGIApp, limits: ConnectionLimits | None = None, **changes: Any
) -> uvicorn.Config:
    """Return the uvicorn configuration of every server, with connections in `limits`.

    Logging stays as the process has it, WebSockets are not compressed
    (specs/event-stream), and forwarded-for headers are ignored here.
    """
    bounds = Connections(limits)
    settings: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "http": partial(BoundedHttp, bounds),
        "ws": partial(BoundedWebSocket, bounds),
        "ws_per_message_deflate": False,
        "ws_max_size": _MAX_RECEIVED_FRAME,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": _KEEP_ALIVE,
        "timeout_graceful_shutdown": _GRACE,
        "backlog": _BACKLOG,
    }
    return uvicorn.Config(app, **(settings | changes))


class _QuietServer(uvicorn.Server):
    """A server beside other work, without signal handlers."""

    def __init__(
        self,
        app: ASGIApp,
        announce: Callable[[], None],
        limits: ConnectionLimits | None,
    ) -> None:
        super().__init__(server_config(app, limits))
        self._announce = announce
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._announce()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks = (ticks + 1) % 864_000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._stop.wait()

    def stop(self) -> None:
        """Stop without waiting for the next tick. Safe in threads."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                self._loop.call_soon_threadsafe(self._stop.set)


def _listen(host: str, port: int, is_shared: bool = False) -> tuple[socket.socket, str]:
    # asyncio turns Nagle's delay off only for sockets that name their protocol;
    # without it every response of two writes takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener, f"http://{host}:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    host: str = LOOPBACK,
    port: int = 0,
    *,
    limits: ConnectionLimits | None = None,
    is_shared: bool = False,
) -> AsyncIterator[str]:
    """Serve on the running event loop; yield the URL (port 0: any free port).

    Processes that share a port each get a part of its connections.
    """
    listener, url = _listen(host, port, is_shared)
    settled = asyncio.Event()
    server = _QuietServer(app, settled.set, limits)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    task.add_done_callback(lambda _: settled.set())
    try:
        await settled.wait()
        if task.done():
            task.result()
            raise RuntimeError("the server stopped before it started")
        yield url
    finally:
        server.stop()
        await task
        listener.close()


@contextlib.contextmanager
def serving_in_thread(
    app: ASGIApp,
    host: str = LOOPBACK,
    port: int = 0,
    *,
    limits: ConnectionLimits | None = None,
) -> Iterator[str]:
    """Serve on an event loop in its own thread; yield the URL."""
    listener, url = _listen(host, port)
    settled = threading.Event()
    failure: list[BaseException] = []
    server = _QuietServer(app, settled.set, limits)

    def run() -> None:
        try:
            asyncio.run(server.serve(sockets=[listener]))
        except BaseException as error:  # raised by the thread that waits below
            failure.append(error)
        finally:
            settled.set()

    thread = threading.Thread(target=run, name=f"serve {url}", daemon=True)
    thread.start()
    settled.wait()
    try:
        if not server.started:
            raise RuntimeError("the server did not start") from (
                failure[0] if failure else None
            )
        yield url
    finally:
        server.stop()
        thread.join()
        listener.close()
