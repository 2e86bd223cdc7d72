"""The interface of feed algorithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from feeds.feedback import NO_FEEDBACK, Feedback
from storage.postgres.pool import Conn
from storage.records.addresses import Address

if TYPE_CHECKING:
    from feeds.for_you.co_likes import CoLikes
    from feeds.read_access import ReadAccess


@dataclass(frozen=True, slots=True)
class SkeletonItem:
    """A post, with its repost or as a pinned post.

    `feed_context` is the reason in a short form; clients send it back with
    interactions.
    """

    post: Address
    repost: Address | None = None
    pinned: bool = False
    feed_context: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """All items of a feed at a moment in microseconds, with notes for explanations."""

    moment: int
    items: tuple[SkeletonItem, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """A request for at most `limit` entries after the keyset `after`.

    `viewer` is an actor id, None without a signed-in account. A keyset holds plain
    values, as the algorithm gave them with an entry. `feedback` is read for feeds with
    `uses_feedback` only. `co_likes` are the likes in memory, None outside a provider.
    `now` is None for the present. `ranking` is the result of `Algorithm.prepare`.
    """

    viewer: int | None
    limit: int
    after: list[Any] | None = None
    feedback: Feedback = NO_FEEDBACK
    co_likes: CoLikes | None = None
    now: datetime | None = None
    ranking: Ranking | None = None


@dataclass(frozen=True, slots=True)
class SkeletonEntry:
    """An item of a feed; the next page begins after its `keyset`."""

    item: SkeletonItem
    keyset: list[Any]


class ViewerRequiredError(Exception):
    """The feed is personal and needs a signed-in account."""


class FeedFailedError(Exception):
    """The algorithm of a feed failed, with the reason."""


Prepare = Callable[["ReadAccess", str | None, list[Any] | None], Ranking]
"""Order the items of a feed for a reader (a DID) who goes on after a keyset.

It is called while no connection is held. Raises FeedFailedError, ViewerRequiredError.
"""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A feed: record key, texts and algorithm.

    `build` returns entries in order, fewer than the limit at the end of the feed. With
    `uses_feedback`, clients send interactions and requests carry feedback. Clients show
    a feed with `video` as videos. A feed that waits for another process has `prepare`.
    """

    name: str
    display_name: str
    description: str
    build: Callable[[Conn, FeedRequest], list[SkeletonEntry]]
    personal: bool = False
    uses_feedback: bool = False
    video: bool = False
    prepare: Prepare | None = None
