"""A recipe: the sources, filters and order of a feed, as plain checked values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from storage.collections import FEED_POST

MAX_RECIPE_BYTES: Final = 65_536
MAX_SOURCES: Final = 16
MAX_SECTIONS: Final = 3
MAX_VALUES: Final = 500
"""Accounts, tags, domains or other values of one key."""
MAX_STICKY: Final = 5
MAX_PATTERNS: Final = 8
MAX_FILTERS: Final = 32
"""Nested filters of one recipe, in `any` and `none`."""
MAX_FILTER_DEPTH: Final = 4
MAX_WINDOW: Final = timedelta(days=365)
DEFAULT_WINDOW: Final = timedelta(days=90)
MAX_NAME_CHARS: Final = 64
MAX_TITLE_CHARS: Final = 24
MAX_DESCRIPTION_CHARS: Final = 300
"""Graphemes of title and description, as in app.bsky.feed.generator."""
MAX_POOL: Final = 5_000
MAX_SPREAD: Final = 100


class SourceKind(StrEnum):
    """The kinds of sources. The value is the key that makes one in a file."""

    SEARCH = "search"  # a query text
    TAGS = "tags"
    DOMAINS = "domains"  # posts that link to one of these
    RECORD = "record"  # posts that quote this record, or reply to it
    SAVED_SEARCH = "saved_search"  # the number of a search of the owner
    EVERYTHING = "everything"
    ACCOUNTS = "accounts"  # DIDs and handles
    LIST = "list"  # AT-URI
    STARTER_PACK = "starter_pack"  # AT-URI
    FOLLOWS_OF = "follows_of"  # the follows of an account, by DID or handle
    FOLLOWS = "follows"  # of the viewer
    FOLLOWS_OF_FOLLOWS = "follows_of_follows"


MATCHED: Final = frozenset(
    (
        SourceKind.SEARCH,
        SourceKind.TAGS,
        SourceKind.DOMAINS,
        SourceKind.RECORD,
        SourceKind.SAVED_SEARCH,
        SourceKind.EVERYTHING,
    )
)
"""Sources whose posts are stored as candidates of the feed. The accounts of all others
are merged at each request."""
PERSONAL: Final = frozenset((SourceKind.FOLLOWS, SourceKind.FOLLOWS_OF_FOLLOWS))
"""Sources that depend on the viewer."""


class RankBy(StrEnum):
    """The orders of a feed."""

    LATEST = "latest"
    POPULAR = "popular"
    QUIET = "quiet"
    CO_LIKES = "co-likes"
    RANDOM = "random"  # another order each hour


class Mix(StrEnum):
    """The ways to join the posts of several sources."""

    MERGE = "merge"  # one order over all; weights multiply scores
    INTERLEAVE = "interleave"  # turns of the sources, in proportion to their weights


class Kept(StrEnum):
    """The treatment of replies, of quotes, and of followed accounts."""

    ANY = "any"
    NO = "no"
    ONLY = "only"


class Audience(StrEnum):
    """Groups of viewers. A new one follows fewer accounts than `follows_below`."""

    SIGNED_OUT = "signed-out"
    NEW = "new"
    RETURNING = "returning"


@dataclass(frozen=True, slots=True)
class Source:
    """An origin of posts.

    `values` are texts, AT-URIs, accounts, or the number of a saved search; empty for
    kinds without a value. A search reads records of `collections`. `rank` is None for
    the order of the recipe.
    """

    name: str
    kind: SourceKind
    values: tuple[str, ...] = ()
    collections: tuple[str, ...] = (FEED_POST,)
    weight: float = 1.0
    reposts: bool = False
    rank: RankBy | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on the text of a post that must all hold; an empty one always does.

    Of several values in one condition one is enough. One of `any` must hold, and none
    of `none`.
    """

    languages: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    not_media: tuple[str, ...] = ()
    search: str = ""
    regex: tuple[str, ...] = ()
    not_regex: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    not_authors: tuple[str, ...] = ()
    replies: Kept = Kept.ANY
    quotes: Kept = Kept.ANY
    min_chars: int = 0
    max_chars: int | None = None
    any: tuple[Filter, ...] = ()
    none: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveFilter:
    """Conditions that change without a new record: they are checked at each request.

    `labels`: one is needed; `not_labels`: none is allowed. `lists` and `not_lists` are
    AT-URIs of lists that the author is on, or is not on. `followed` is about the
    viewer's follows.
    """

    min_likes: int = 0
    max_likes: int | None = None
    min_reposts: int = 0
    max_reposts: int | None = None
    min_replies: int = 0
    max_replies: int | None = None
    min_quotes: int = 0
    max_quotes: int | None = None
    min_age: timedelta = timedelta(0)
    max_age: timedelta | None = None
    labels: tuple[str, ...] = ()
    not_labels: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    not_lists: tuple[str, ...] = ()
    followed: Kept = Kept.ANY
    not_seen: bool = False

    @property
    def is_personal(self) -> bool:
        """Return True if the result depends on the viewer."""
        return self.not_seen or self.followed is not Kept.ANY


@dataclass(frozen=True, slots=True)
class Diversity:
    """Limits within `spread` consecutive posts; None is no limit."""

    per_author: int | None = None
    per_thread: int | None = None
    per_domain: int | None = None
    spread: int = 20

    @property
    def is_limited(self) -> bool:
        """Return True if there is a limit."""
        return (self.per_author, self.per_thread, self.per_domain) != (None,) * 3


@dataclass(frozen=True, slots=True)
class Rank:
    """An order.

    The newest `pool` posts are ordered among themselves, then the next ones. Popular:
    (likes·w + reposts·w + replies·w + quotes·w) / (hours + offset_hours) ** gravity.
    Quiet: 1 / (1 + posts of the author in `quiet_days`), over the same age.
    Co-likes: likers in common with the viewer's likes, over the same age.
    """

    by: RankBy = RankBy.LATEST
    mix: Mix = Mix.MERGE
    likes: float = 1.0
    reposts: float = 2.0
    replies: float = 1.0
    quotes: float = 2.0
    gravity: float = 1.5
    offset_hours: float = 2.0
    quiet_days: int = 7
    pool: int = 1_000
    diversity: Diversity = Diversity()


@dataclass(frozen=True, slots=True)
class Section:
    """Another choice for a group of viewers; None means that of the recipe.

    `sources` are names. `sticky` are AT-URIs of posts.
    """

    audience: Audience
    sources: tuple[str, ...] | None = None
    rank: Rank | None = None
    sticky: tuple[str, ...] | None = None
    follows_below: int = 10


@dataclass(frozen=True, slots=True)
class Recipe:
    """A feed. `name` is its record key, `sticky` are AT-URIs of posts on top.

    Posts older than `window` are left out.
    """

    name: str
    title: str
    description: str = ""
    sources: tuple[Source, ...] = ()
    filter: Filter = Filter()
    live: LiveFilter = LiveFilter()
    rank: Rank = Rank()
    sticky: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    window: timedelta = DEFAULT_WINDOW
    sign_in: bool = False
    video: bool = False
    """True for a feed of videos, which clients show differently."""
    handles: frozenset[str] = field(default=frozenset(), compare=False)
    """Handles in it, which need DIDs before it can be served."""

    def source(self, name: str) -> Source:
        """Return the source of this name. Raises KeyError."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(name)
