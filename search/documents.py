"""Documents of a search engine: one for a record, one for an account.

Plain values: `search.drain` makes them of current rows, and an engine needs no lookup
to index them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from storage.records.addresses import Address


@dataclass(frozen=True, slots=True)
class RecordText:
    """The searchable parts of a record, read by its collection."""

    text: str
    title: str = ""
    langs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    reply_parent: str | None = None
    reply_root: str | None = None
    alt: str = ""
    card: str = ""
    created_at: datetime | None = None
    """The time that the author claims, of records that are no posts."""


@dataclass(frozen=True, slots=True)
class RecordDocument:
    """A record with text: a post, a feed generator, a list, a record of any lexicon.

    `text` is cleaned and cut (storage.postgres.text). `title` weighs more: the name of
    a feed, list or starter pack. `alt` holds the alt texts of pictures and videos,
    `card` the title and description of a link card. `features` is a subset of media,
    images, video, link, reply, quote. Domains are lower case, `mentions` DIDs,
    `quotes` AT-URIs, tags without #.
    """

    address: Address
    uri: str
    collection: str
    rkey: str
    did: str
    handle: str | None
    title: str
    text: str
    langs: tuple[str, ...]
    tags: tuple[str, ...]
    mentions: tuple[str, ...]
    domains: tuple[str, ...]
    urls: tuple[str, ...]
    features: tuple[str, ...]
    quotes: tuple[str, ...]
    reply_parent: str | None
    reply_root: str | None
    created_at: datetime
    sort_at: datetime
    """The earlier of `created_at`, as the author claims, and the time of indexing."""
    likes: int
    reposts: int
    replies: int
    quote_count: int
    alt: str = ""
    card: str = ""
    quoted: str = ""
    """Start of the quoted posts' texts, as they are in the index."""
    detected: str = ""
    """Language of the text (search.text.languages), `und` if unknown."""
    _terms: Any = field(default=None, init=False, repr=False, compare=False)
    """Terms that were read (search.terms): index, matcher and explanations share them.
    """


@dataclass(frozen=True, slots=True)
class ActorDocument:
    """An account that may be shown, with or without a profile record."""

    actor: int
    did: str
    handle: str | None
    display_name: str
    description: str
    created_at: datetime | None
    followers: int
    follows: int
    posts: int


Document = RecordDocument | ActorDocument
