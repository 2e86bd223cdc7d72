"""Queries as trees: words and filters, joined by and, or and not.

The tree is plain data with resolved values, so that engines, saved searches and feeds
share it. Times, order and the number of likes stand beside the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from storage.records.addresses import Address

Sort = Literal["latest", "top"]


class Kind(StrEnum):
    """The kinds of filters, and the form of their values."""

    AUTHOR = "author"  # DID
    MENTION = "mention"  # DID
    DOMAIN = "domain"  # lower case; finds its subdomains too
    URL = "url"  # as storage.records.web_urls normalizes it
    TAG = "tag"  # as `normalize_tag` returns it
    LANG = "lang"  # primary language subtag, declared or detected
    FEATURE = "feature"  # one of FEATURES
    PARENT = "parent"  # AT-URI of the record replied to
    ROOT = "root"  # AT-URI of the first post of the thread
    QUOTE = "quote"  # AT-URI of a quoted record
    RECORD = "record"  # one record, as `record_key` names it


FEATURES = ("media", "images", "video", "link", "reply", "quote")


@dataclass(frozen=True, slots=True)
class Words:
    """Adjacent tokens in order; one word is one token.

    `prefix` lets the last token match any longer word.
    """

    tokens: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """A value that a document must have."""

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of these; without items, everything."""

    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these; without items, nothing."""

    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """Everything but this."""

    item: Node


Node = Words | Filter | AllOf | AnyOf | Not
EVERYTHING = AllOf()
NOTHING = AnyOf()


class Place(StrEnum):
    """Sets of records that belong to an account (`in:…`)."""

    FOLLOWING = "following"
    LIKES = "likes"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Within:
    """A set that the index must look up before a search.

    `value` is the viewer's DID; for a list its AT-URI.
    """

    place: Place
    value: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions on records, and their order.

    `since` and `until` compare the time by which results are sorted. Sets in `within`
    are replaced by filters before an engine sees the query.
    """

    where: Node = EVERYTHING
    since: datetime | None = None
    until: datetime | None = None
    min_likes: int = 0
    within: tuple[Within, ...] = ()
    sort: Sort = "latest"

    @property
    def is_empty(self) -> bool:
        """Return True if nothing narrows the search."""
        return self == Query(sort=self.sort)


def all_of(*items: Node) -> Node:
    """Join conditions that must all hold."""
    flat: list[Node] = []
    for item in items:
        flat += item.items if isinstance(item, AllOf) else (item,)
    unique = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else AllOf(unique)


def any_of(*items: Node) -> Node:
    """Join conditions of which one must hold."""
    flat: list[Node] = []
    for item in items:
        flat += item.items if isinstance(item, AnyOf) else (item,)
    unique = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else AnyOf(unique)


def filters(kind: Kind, values: Iterable[str]) -> tuple[Filter, ...]:
    """Return a filter for each value."""
    return tuple(Filter(kind, value) for value in values)


def required(node: Node) -> tuple[Node, ...]:
    """Return the conditions that must all hold."""
    return node.items if isinstance(node, AllOf) else (node,)


def words_of(node: Node) -> Iterator[Words]:
    """Return the words and phrases that a match may hold, without negated ones."""
    if isinstance(node, Words):
        yield node
    elif isinstance(node, AllOf | AnyOf):
        for item in node.items:
            yield from words_of(item)


def record_key(address: Address) -> str:
    """Return the value of a RECORD filter."""
    return f"{address.actor}/{address.collection}/{address.rkey}"


def record_of(key: str) -> Address:
    """Return the address in the value of a RECORD filter."""
    actor, collection, rkey = key.split("/")
    return Address(int(actor), int(collection), int(rkey))
