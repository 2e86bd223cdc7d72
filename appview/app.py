"""What the view methods need from outside, in one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg_pool import ConnectionPool

from search.engine import SearchEngine
from storage.interning import Interner


@dataclass(frozen=True, slots=True)
class ForeignSkeleton:
    """A page of a feed of somebody else: AT-URIs, their reposts, a cursor."""

    items: list[tuple[str, str | None]]
    cursor: str | None


class ResolveHandle(Protocol):
    """Asks the network for the DID of a handle, None: nobody's. With `refresh` no
    remembered answer serves."""

    def __call__(
        self, handle: str, *, refresh: bool = False
    ) -> Awaitable[str | None]: ...


class FetchSkeleton(Protocol):
    """Asks a foreign feed generator; raises `XrpcError`."""

    def __call__(
        self,
        service_did: str,
        *,
        feed: str,
        limit: int,
        cursor: str | None,
        authorization: str | None,
    ) -> Awaitable[ForeignSkeleton]: ...


@dataclass(frozen=True, slots=True)
class AppView:
    """The read side. `interner` must have a pool of its own: a request that holds a
    connection asks it for names."""

    pool: ConnectionPool[psycopg.Connection[Any]]
    interner: Interner
    engine: SearchEngine
    cursor_secret: bytes
    service_did: str
    resolve_handle: ResolveHandle
    """A handle that no account of the index has: asked of the network, None: nobody."""
    fetch_skeleton: FetchSkeleton
    request_crawl: Callable[[psycopg.Connection[Any], str], None]
    """Admits a host; raises `XrpcError`."""
    export_repo: Callable[[psycopg.Connection[Any], int], AbstractContextManager[Any]]
    """Context manager of an iterator over the CAR of an actor's repo."""
    cdn_url_pattern: str | None = None
    """With {preset}, {did} and {cid}; None: blobs are shown from the account's host."""
    default_labelers: tuple[str, ...] = ()
    keeps_events: bool = False
    """Whether there is an event log for the streams that others read."""
