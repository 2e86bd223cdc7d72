"""The dependencies of the view methods, in one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from network.server.spool import Spooler
from search.engines.contract import SearchEngine
from storage.postgres.pool import Conn, Pool
from storage.private.private_store import PrivateStore
from storage.private.sealing import Vault


@dataclass(frozen=True, slots=True)
class ForeignItem:
    """An entry of a feed of another service, by AT-URI.

    Clients return `context` to that service.
    """

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
    """Resolver of handles to DIDs, None for an unknown handle.

    `refresh` bypasses the cache.
    """

    def __call__(
        self, handle: str, *, refresh: bool = False
    ) -> Awaitable[str | None]: ...


class FetchSkeleton(Protocol):
    """Client of foreign feed generators. Raises `XrpcError`."""

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
    """The read side. `pool` has a connection for each handler thread."""

    pool: Pool
    private: PrivateStore
    vault: Vault
    engine: SearchEngine
    cursor_secret: bytes
    service_did: str
    resolve_handle: ResolveHandle
    """Resolver of handles that no account of the index has."""
    fetch_skeleton: FetchSkeleton
    request_crawl: Callable[[str, str], Awaitable[None]]
    """Admits a host named by a client (its key). Raises `XrpcError`."""
    export_repo: Callable[[Conn, int], AbstractContextManager[Any]]
    """Context manager of an iterator over the CAR of an account's repo."""
    cdn_url_pattern: str | None = None
    """With {preset}, {did} and {cid}; None: images come from the account's host."""
    video_url_pattern: str | None = None
    """With {did}, {cid} and {file}; None: the original from the account's host."""
    default_labelers: tuple[str, ...] = ()
    spooler: Spooler = field(default_factory=Spooler)
    """Spool of whole repos before they are sent."""
    sends_pushes: bool = False
    """True if notifications of registered devices are sent to a webhook."""
    keeps_events: bool = False
    """True if there is an event log for streams."""
