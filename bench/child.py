"""A server in its own process, so that its CPU time is counted apart."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

import anyio
from starlette.types import ASGIApp

from network.server.listener import serving

_PATIENCE_S: Final = 60.0


@contextmanager
def open_child(make_app: Callable[..., ASGIApp], *arguments: Any) -> Iterator[str]:
    """Serve `make_app(*arguments)` from another process; yield the URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, make_app, arguments), daemon=True
    )
    process.start()
    try:
        if not ours.poll(_PATIENCE_S):
            raise RuntimeError("the serving process did not start")
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(
    announce: Connection, make_app: Callable[..., ASGIApp], arguments: tuple[Any, ...]
) -> None:
    async def main() -> None:
        async with serving(make_app(*arguments)) as url:
            announce.send(url)
            await anyio.sleep_forever()

    anyio.run(main)
