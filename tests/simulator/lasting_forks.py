"""Imported by the server of forks: a crawler that is killed while it asks for a shard
must not take along the server that all crawlers of a test share."""

from __future__ import annotations

import errno
from multiprocessing import reduction
from typing import Any

_receive = reduction.recvfds  # type: ignore[attr-defined]


def receive_or_pass(sock: Any, size: int) -> Any:
    """What the server passes over is an OSError; it would end with an EOFError."""
    try:
        return _receive(sock, size)
    except EOFError:
        raise OSError(errno.ECONNABORTED, "the crawler was killed") from None


reduction.recvfds = receive_or_pass  # type: ignore[attr-defined]
