"""The interface of feed algorithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage.postgres.pool import Conn
from storage.records.addresses import Address


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """A request for at most `limit` entries after the keyset `after`.

    `viewer` is an actor id, None without a signed-in account. A keyset holds plain
    values, as the algorithm gave them with an entry.
    """

    viewer: int | None
    limit: int
    after: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class SkeletonItem:
    """A post, with its repost or as a pinned post."""

    post: Address
    repost: Address | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class SkeletonEntry:
    """An item of a feed; the next page begins after its `keyset`."""

    item: SkeletonItem
    keyset: list[Any]


class ViewerRequiredError(Exception):
    """The feed is personal and needs a signed-in account."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A feed: record key, texts and algorithm.

    `build` returns entries in order, fewer than the limit at the end of the feed.
    """

    name: str
    display_name: str
    description: str
    build: Callable[[Conn, FeedRequest], list[SkeletonEntry]]
    personal: bool = False
