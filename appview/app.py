"""The needs of the view methods from outside, in one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from network.server.spool import Spooler
from search.engines.contract import SearchEngine
from storage.postgres.pool import Conn, Pool


@dataclass(frozen=True, slots=True)
class ForeignItem:
    """An entry of a feed of another service, by AT-URI. `context` is for the client,
    who may send it back to the service."""

    post: str
    repost: str | None = None
    pinned: bool = False
    context: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignSkeleton:
    """A page of a feed of another service; `cursor` is None at its end."""

    items: list[ForeignItem]
    cursor: str | None = None
    req_id: str | None = None


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
        headers: Mapping[str, str],
    ) -> Awaitable[ForeignSkeleton]: ...


@dataclass(frozen=True, slots=True)
class AppView:
    """The read side. `pool` has a connection for each thread that answers requests."""

    pool: Pool
    engine: SearchEngine
    cursor_secret: bytes
    service_did: str
    resolve_handle: ResolveHandle
    """A handle that no account of the index has: asked of the network, None: nobody."""
    fetch_skeleton: FetchSkeleton
    request_crawl: Callable[[str, str], Awaitable[None]]
    """Admits a host that a client (its key) names; raises `XrpcError`."""
    export_repo: Callable[[Conn, int], AbstractContextManager[Any]]
    """Context manager of an iterator over the CAR of an actor's repo."""
    cdn_url_pattern: str | None = None
    """With {preset}, {did} and {cid}; None: blobs are shown from the account's host."""
    video_url_pattern: str | None = None
    """With {did}, {cid} and {file}; None: the original, from the account's host."""
    default_labelers: tuple[str, ...] = ()
    spooler: Spooler = field(default_factory=Spooler)
    """Spool of whole repos that are to be sent."""
    keeps_events: bool = False
    """True if there is an event log for the streams that others read."""
