"""Errors of identity lookups, by the names of com.atproto.identity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from network.errors import (
    DidNotFoundError,
    DidTombstonedError,
    HandleNotFoundError,
    UnsupportedDidError,
)
from network.xrpc.server import XrpcError


@contextmanager
def naming_errors() -> Iterator[None]:
    """Raise lookup failures as DidDeactivated, DidNotFound or HandleNotFound."""
    try:
        yield
    except DidTombstonedError as error:
        raise XrpcError("DidDeactivated", str(error), 400) from error
    except (DidNotFoundError, UnsupportedDidError) as error:
        raise XrpcError("DidNotFound", str(error), 400) from error
    except HandleNotFoundError as error:
        raise XrpcError("HandleNotFound", str(error), 400) from error
