"""The child process of a feed written in Python: it loads one file and runs it.

It is started with the number of its socket and its limits. It has no database, no
settings and no secrets: posts come from the parent, message by message.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from types import CodeType
from typing import Any, Final

if __name__ == "__main__":
    # Isolated mode leaves out the folder of the program.
    sys.path.insert(0, os.path.abspath(f"{__file__}/../../.."))

from feeds.scripts.interface import (
    HEADER_BYTES,
    MAX_ITEMS,
    MAX_READS,
    Item,
    ReadError,
    Request,
)

_OPEN_FILES: Final = 64
_MOST_LEFT_OUT: Final = 10 * MAX_ITEMS
"""Values that are no posts, after which a run ends."""
_SHOWN: Final = 100


class Channel:
    """Messages of JSON, each after its length."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message."""
        data = json.dumps(message).encode()
        self._connection.sendall(len(data).to_bytes(HEADER_BYTES, "big") + data)

    def receive(self) -> dict[str, Any]:
        """Return the next message. Raises EOFError when the parent is gone."""
        size = int.from_bytes(self._take(HEADER_BYTES), "big")
        message: dict[str, Any] = json.loads(self._take(size))
        return message

    def _take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._connection.recv(min(size - len(data), 1 << 16))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)


class Script:
    """A loaded file."""

    def __init__(self, channel: Channel, path: str, text: str) -> None:
        self._channel = channel
        self._path = path
        self._reads = 0
        code: CodeType = compile(text, path, "exec", dont_inherit=True)
        names: dict[str, Any] = {"__name__": "feed_file", "__file__": path}
        exec(code, names)  # noqa: S102  (the file of the operator is the point)
        function = names.get("feed")
        if not callable(function):
            raise TypeError("the file has no function feed(request)")
        self._function: Callable[[Request], Any] = function
        self.described = {
            "title": _constant(names, "TITLE", ""),
            "description": _constant(names, "DESCRIPTION", ""),
            "personal": _constant(names, "PERSONAL", False),
        }

    def run(self, viewer: str | None, now: str) -> dict[str, Any]:
        """Return the items of the feed, and what was left out."""
        self._reads = 0
        moment = datetime.fromisoformat(now)
        found = self._function(Request(viewer, moment, MAX_ITEMS, self._read))
        if found is None or isinstance(found, str | bytes | Mapping):
            raise TypeError(f"feed() returned {_shown(found)}: return or yield posts")
        items: list[tuple[str, str]] = []
        left_out: list[str] = []
        dropped = 0
        for value in found:
            if isinstance(value, Item) and isinstance(value.post, str):
                items.append((value.post, str(value.reason)[:1_000]))
            elif isinstance(value, str):
                items.append((value, ""))
            else:
                dropped += 1
                if not left_out:
                    left_out.append(f"no AT-URI: {_shown(value)}")
            if len(items) == MAX_ITEMS or dropped == _MOST_LEFT_OUT:
                break
        return {"items": items, "left_out": left_out, "dropped": dropped}

    def _read(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        self._reads += 1
        if self._reads > MAX_READS:
            raise ReadError(f"at most {MAX_READS} calls of search and recipe in a run")
        self._channel.send(asked)
        return self._channel.receive()


def _constant(names: Mapping[str, Any], name: str, default: Any) -> Any:
    value = names.get(name, default)
    if not isinstance(value, type(default)):
        raise TypeError(f"{name} is {_shown(value)}, not a {type(default).__name__}")
    return value


def _shown(value: object) -> str:
    try:
        return repr(value)[:_SHOWN]
    except Exception:
        return f"a {type(value).__name__}"


def describe_error(error: BaseException, path: str, memory: int) -> str:
    """Return the line in the file, the kind of an error and its message."""
    line: int | None = None
    if isinstance(error, SyntaxError) and error.filename == path:
        line = error.lineno
        text = error.msg
    else:
        with contextlib.suppress(Exception):
            frames = traceback.extract_tb(error.__traceback__)
            line = next(
                (f.lineno for f in reversed(frames) if f.filename == path), None
            )
        try:
            text = str(error)
        except Exception:
            text = ""
    if isinstance(error, MemoryError):
        text = f"over {memory >> 20} MB of memory"
    where = f"line {line}: " if line is not None else ""
    return f"{where}{type(error).__name__}: {text}"[:1_000]


def _limit(memory: int) -> None:
    """Limit memory, files and core dumps of this process."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        # Some systems refuse a limit of address space.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def _limit_time(seconds: int) -> None:
    """End this process after some seconds of CPU time, if the parent does not."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def serve(channel: Channel, memory: int, seconds: int) -> None:
    """Load the file of the first message, then run it for each further one."""
    script: Script | None = None
    path = ""
    while True:
        message = channel.receive()
        _limit_time(seconds)
        try:
            if script is None:
                path = message["path"]
                script = Script(channel, path, message["text"])
                reply = script.described
            else:
                reply = script.run(message["viewer"], message["now"])
        except BaseException as error:
            # Also SystemExit of the file.
            reply = {"failed": describe_error(error, path, memory)}
        channel.send(reply)


def main(arguments: list[str]) -> None:
    """Serve the parent until it closes the socket."""
    descriptor, memory, seconds = map(int, arguments)
    connection = socket.socket(fileno=descriptor)
    _limit(memory)
    with contextlib.suppress(EOFError, OSError):
        serve(Channel(connection), memory, seconds)
    # Threads of the file must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
