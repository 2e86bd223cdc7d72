"""A host that only sends: a stream of frames and whole repos, from files, in a process
of its own, so that its work is not counted with ours."""

from __future__ import annotations

import multiprocessing
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from operator import itemgetter
from pathlib import Path
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from crawler.methods import GET_REPO, SUBSCRIBE_REPOS
from network.serve import serving
from network.stream_server import StreamServer

_LENGTH: Final = struct.Struct(">I")
_FRAMES: Final = "frames"
_START_PATIENCE_S: Final = 60.0


def write_frames(folder: Path, frames: Iterable[bytes]) -> None:
    """Keep the frames that a host of this folder sends, numbered from 1."""
    with (folder / _FRAMES).open("wb") as file:
        for frame in frames:
            file.write(_LENGTH.pack(len(frame)) + frame)


def read_frames(folder: Path) -> Iterator[bytes]:
    """The frames again, none where none were written."""
    path = folder / _FRAMES
    data = path.read_bytes() if path.exists() else b""
    start = 0
    while start < len(data):
        (size,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        yield data[start : start + size]
        start += size


def write_repo(folder: Path, did: str, car: Iterable[bytes]) -> int:
    """Keep the repo that a host of this folder gives away; its bytes."""
    with _repo_path(folder, did).open("wb") as file:
        return sum(file.write(piece) for piece in car)


@contextmanager
def open_host(folder: Path) -> Iterator[str]:
    """Serve a folder from another process; gives the URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(folder, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(_START_PATIENCE_S):
            raise RuntimeError("the sending process did not start")
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


class _Frames:
    """An event source of frames that were there from the beginning."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._events = list(enumerate(frames, 1))

    async def tail(self) -> int:
        return len(self._events)

    async def oldest(self) -> int:
        return min(1, len(self._events))

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        start = bisect_right(self._events, seq, key=itemgetter(0))
        return self._events[start : start + limit]


def _repo_path(folder: Path, did: str) -> Path:
    return folder / did.replace(":", "_")


def _serve(folder: Path, announce: Connection) -> None:
    stream = StreamServer(_Frames(read_frames(folder)))

    async def subscribe(websocket: WebSocket) -> None:
        cursor = websocket.query_params.get("cursor")
        await stream(websocket, {} if cursor is None else {"cursor": int(cursor)})

    async def get_repo(request: Request) -> Response:
        return FileResponse(_repo_path(folder, request.query_params["did"]))

    app = Starlette(
        routes=[
            WebSocketRoute(f"/xrpc/{SUBSCRIBE_REPOS}", subscribe),
            Route(f"/xrpc/{GET_REPO}", get_repo),
        ]
    )

    async def main() -> None:
        async with serving(app) as url:
            announce.send(url)
            await anyio.sleep_forever()

    anyio.run(main)
