"""Patch for the fork server: survive a crawler that dies during a request.

All crawlers of a test share the fork server, which would end with an EOFError.
"""

from __future__ import annotations

import errno
from multiprocessing import reduction
from typing import Any

_receive = reduction.recvfds  # type: ignore[attr-defined]


def receive_or_pass(sock: Any, size: int) -> Any:
    """Raise an OSError, which the server ignores, in place of the EOFError."""
    try:
        return _receive(sock, size)
    except EOFError:
        raise OSError(errno.ECONNABORTED, "the crawler was killed") from None


reduction.recvfds = receive_or_pass  # type: ignore[attr-defined]
