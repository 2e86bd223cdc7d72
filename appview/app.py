"""The dependencies of the view methods, in one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from appview.network_reads import NetworkReads, Offline
from appview.takedowns import TakedownCache
from feeds.feed_counters import FeedCounters
from feeds.for_you.co_likes import CoLikes
from feeds.served_feeds import ServedFeeds
from network.server.shared_buckets import SharedBuckets
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
class ClientSettings:
    """Settings that clients of this provider ask for.

    `age_assurance` is an app.bsky.ageassurance.defs#config: no region needs it by
    default. `live_now` has the domains that an account may be live at, by DID.
    """

    age_assurance: Mapping[str, Any] = field(default_factory=lambda: {"regions": []})
    live_now: Mapping[str, list[str]] = field(default_factory=dict)
    check_email_confirmed: bool = False
    privacy_policy: str | None = None
    """URL of the privacy policy, which describeFeedGenerator links."""
    terms_of_service: str | None = None


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
    """Labelers that we subscribe to; no others are applied."""
    trusted_verifiers: tuple[str, ...] = ()
    """DIDs of the accounts whose verifications are shown."""
    client_settings: ClientSettings = field(default_factory=ClientSettings)
    spooler: Spooler = field(default_factory=Spooler)
    """Spool of whole repos before they are sent."""
    takedowns: TakedownCache = field(default_factory=TakedownCache)
    feeds: ServedFeeds = field(default_factory=ServedFeeds)
    sends_pushes: bool = False
    """True if notifications of registered devices are sent to a webhook."""
    shared_buckets: SharedBuckets | None = None
    """The rate limits that all processes behind one port have in common."""
    keeps_events: bool = False
    """True if there is an event log for streams."""
    co_likes: CoLikes = field(default_factory=CoLikes)
    """The likes in memory, for personal feeds; empty until they are read."""
    feed_counters: FeedCounters = field(default_factory=FeedCounters)
    """Statistics of the feeds, until they are written."""
    network: NetworkReads = field(default_factory=Offline)
    """Reads beyond the index."""
