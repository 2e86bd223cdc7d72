"""A Personal Data Server in a process of its own, which dies where a test says."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.connection import Connection

import anyio

from network.server.listener import serving
from pds.application import create_app
from pds.settings import PdsSettings
from storage.postgres.crashpoint import Crashpoint, arm
from storage.postgres.pool import open_pool

_PATIENCE_S = 60.0


class PdsProcess:
    """A running server; it stops with `stop`, or at an armed point."""

    def __init__(self, settings: PdsSettings, database: str, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, settings, database, port), daemon=True
        )
        self._process.start()
        theirs.close()
        self._expect("serving")

    def arm(self, point: Crashpoint) -> None:
        """Let the process die when it gets to this point."""
        self._pipe.send(point.value)
        self._expect("armed")

    def wait(self) -> int | None:
        """Wait for the death of the process; return its exit code."""
        self._process.join(_PATIENCE_S)
        return self._process.exitcode

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _expect(self, word: str) -> None:
        if not self._pipe.poll(_PATIENCE_S) or self._pipe.recv() != word:
            raise RuntimeError(f"the server is not {word}")


def _serve(pipe: Connection, settings: PdsSettings, database: str, port: int) -> None:
    def listen() -> None:
        while True:
            arm(pipe.recv())
            pipe.send("armed")

    async def main() -> None:
        with open_pool(database) as pool:
            async with serving(create_app(settings, pool), port=port):
                pipe.send("serving")
                threading.Thread(target=listen, daemon=True).start()
                await anyio.sleep_forever()

    anyio.run(main)
