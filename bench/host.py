"""A fake host: a stream of frames, and repos from files."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from bench.child import open_child
from crawler.methods import GET_REPO, SUBSCRIBE_REPOS
from network.streams.stream_server import StreamServer

_LENGTH: Final = struct.Struct(">I")
_FRAMES: Final = "frames"


class Frames:
    """An event source of frames numbered from 1."""

    def __init__(self, frames: Iterable[bytes] = ()) -> None:
        self._events = list(enumerate(frames, 1))

    def add(self, frame: bytes) -> None:
        """Add a frame, whose own seq must be the next one."""
        self._events.append((len(self._events) + 1, frame))

    async def tail(self) -> int:
        return len(self._events)

    async def oldest(self) -> int:
        return min(1, len(self._events))

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        return self._events[seq : seq + limit]


def write_frames(folder: Path, frames: Iterable[bytes]) -> None:
    """Write the frames that the host of this folder sends."""
    with (folder / _FRAMES).open("wb") as file:
        for frame in frames:
            file.write(_LENGTH.pack(len(frame)) + frame)


def read_frames(folder: Path) -> Iterator[bytes]:
    """Read the frames, or none if none were written."""
    path = folder / _FRAMES
    data = path.read_bytes() if path.exists() else b""
    start = 0
    while start < len(data):
        (size,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        yield data[start : start + size]
        start += size


def write_repo(folder: Path, did: str, car: Iterable[bytes]) -> int:
    """Write a repo of the host of this folder; return its size."""
    with _repo_path(folder, did).open("wb") as file:
        return sum(file.write(piece) for piece in car)


@contextmanager
def open_host(folder: Path) -> Iterator[str]:
    """Serve a folder from another process; yield the URL."""
    with open_child(_folder_app, folder) as url:
        yield url


def host_app(stream: StreamServer, folder: Path) -> Starlette:
    """Return the two methods of a PDS that a crawler needs for known accounts."""

    async def subscribe(websocket: WebSocket) -> None:
        cursor = websocket.query_params.get("cursor")
        await stream(websocket, {} if cursor is None else {"cursor": int(cursor)})

    async def get_repo(request: Request) -> Response:
        return FileResponse(_repo_path(folder, request.query_params["did"]))

    return Starlette(
        routes=[
            WebSocketRoute(f"/xrpc/{SUBSCRIBE_REPOS}", subscribe),
            Route(f"/xrpc/{GET_REPO}", get_repo),
        ]
    )


def _folder_app(folder: Path) -> Starlette:
    return host_app(StreamServer(Frames(read_frames(folder))), folder)


def _repo_path(folder: Path, did: str) -> Path:
    return folder / did.replace(":", "_")
