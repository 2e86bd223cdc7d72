"""What a search engine is given: one document for a record or for an account.

Plain values only: whoever builds them (indexer.search_sync) has read current rows,
and whoever takes them (a search engine) needs no look-up of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Address(NamedTuple):
    """A record by its numbers (storage.schema)."""

    actor: int
    collection: int
    rkey: int


@dataclass(frozen=True, slots=True)
class RecordDocument:
    """A record with text: a post, a feed generator, a list, a record of any lexicon.

    `text` is what is searched, cleaned and cut (storage.postgres.text); `title` weighs
    more (the name of a feed, list or starter pack; empty for posts). `features` is a
    subset of media, images, video, link, reply, quote. Domains are lower case;
    `mentions` are DIDs; `quotes` are AT-URIs; tags are without the #, as written.
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
    """The earlier of created_at, which the author claims, and of our first sight."""
    likes: int
    reposts: int
    replies: int
    quote_count: int


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
