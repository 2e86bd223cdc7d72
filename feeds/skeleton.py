"""What a feed algorithm is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from storage.documents import Address


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """One page: `viewer` is an actor id (None: not signed in), `after` the keyset of
    the page before, plain values that the algorithm itself gave."""

    viewer: int | None
    limit: int
    after: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class SkeletonItem:
    """A post, and the repost by which it came here."""

    post: Address
    repost: Address | None = None


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Items in order; `after` is None at the end of the feed."""

    items: list[SkeletonItem]
    after: list[Any] | None


class ViewerRequiredError(Exception):
    """The feed is personal: it can only be asked by a signed-in account."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A feed: its record key, what people read about it, and how it is made."""

    name: str
    display_name: str
    description: str
    build: Callable[[psycopg.Connection[Any], FeedRequest], Skeleton]
    personal: bool = False


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exact: the form of a moment in a keyset."""
    return round(moment.timestamp() * 1_000_000)


def moment(value: int) -> datetime:
    """The moment of `micros`."""
    return datetime.fromtimestamp(value / 1_000_000, UTC)
