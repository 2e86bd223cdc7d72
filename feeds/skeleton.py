"""What a feed algorithm is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage.postgres.pool import Conn
from storage.records.addresses import Address


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """A piece of a feed: at most `limit` entries behind the keyset `after`.

    `viewer` is an actor id (None: not signed in). A keyset holds plain values, given
    by the algorithm itself with an entry.
    """

    viewer: int | None
    limit: int
    after: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class SkeletonItem:
    """A post, and the repost by which it came here, or that its author pinned it."""

    post: Address
    repost: Address | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class SkeletonEntry:
    """An item of a feed, and the keyset of what comes behind it."""

    item: SkeletonItem
    keyset: list[Any]


class ViewerRequiredError(Exception):
    """The feed is personal: it can only be asked by a signed-in account."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A feed: its record key, what people read about it, and how it is made.

    `build` returns entries in order, fewer than the limit at the end of the feed.
    """

    name: str
    display_name: str
    description: str
    build: Callable[[Conn, FeedRequest], list[SkeletonEntry]]
    personal: bool = False
