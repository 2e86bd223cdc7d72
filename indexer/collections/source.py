"""What a collection is told and gives back: the shape shared by its modules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from indexer.links import Link, Target, parse_link
from protocol.errors import InvalidRecordError
from protocol.syntax import datetime_us, is_datetime
from storage.collections import NO_COLLECTION, NO_RKEY
from storage.records.rows import RowTable

Value = Mapping[str, Any]
"""A decoded record (protocol.data.cbor.decode_fast: links are bytes)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OLDEST_US: Final = -62_135_596_800_000_000  # 0001-01-01
_NEWEST_US: Final = 253_402_300_799_999_999  # 9999-12-31
_PLAIN_YEARS: Final = ("0002", "9999")
# What nearly all times look like; all others take the long way.
_USUAL_TIME: Final = re.compile(
    r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", re.ASCII
)


class Source(NamedTuple):
    """The record that rows are made of, and when this project first saw it."""

    actor: int
    rkey: int
    indexed_at: datetime


@dataclass(frozen=True, slots=True)
class Names:
    """Numbers of all names that the links of a batch hold."""

    actors: Mapping[str, int]
    collections: Mapping[str, int]
    rkeys: Mapping[str, int]

    def within(self, links: Sequence[Link]) -> Names:
        """Those of some links only."""
        return Names(
            {did: self.actors[did] for _, did, _, _ in links},
            {n: self.collections[n] for _, _, n, _ in links if n is not None},
            {r: self.rkeys[r] for _, _, _, r in links if r is not None},
        )

    def target(self, target: Target) -> tuple[int, int, int]:
        """(actor, collection, rkey), with 0 for what a target does not name.

        Raises InvalidRecordError for a link beyond the bound on links of one record.
        """
        did, nsid, rkey = target
        try:
            return (
                self.actors[did],
                NO_COLLECTION if nsid is None else self.collections[nsid],
                NO_RKEY if rkey is None else self.rkeys[rkey],
            )
        except KeyError:
            raise InvalidRecordError("", "too many links") from None


RowOut = tuple[RowTable, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class RecordText:
    """What a collection's record says, for a search document."""

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


class Collection(Protocol):
    """What each module of this folder has."""

    COLLECTION: str
    """Its NSID."""
    TABLES: tuple[RowTable, ...]
    """The tables its rows are in; deletion goes over them."""
    SEARCHABLE: bool
    """Whether `to_text` gives something to search."""

    def find_links(self, value: Value) -> list[Link]:
        """The record's edges."""

    def to_rows(self, value: Value, source: Source, names: Names) -> list[RowOut]:
        """The record's rows. Raises InvalidRecordError for a record that does not
        have the shape of its collection: it then has neither rows nor edges."""

    def to_text(self, value: Value) -> RecordText:
        """What is searched; only called for a record that gave rows."""


def require_text(value: Value, field: str) -> str:
    """A string field; raises InvalidRecordError."""
    text = value.get(field)
    if type(text) is not str:
        raise InvalidRecordError(field, "not a string")
    return text


def require_target(value: Value, field: str) -> Target:
    """A field that links to a record or an account; raises InvalidRecordError."""
    target = parse_link(require_text(value, field))
    if target is None:
        raise InvalidRecordError(field, "not a link to a record or an account")
    return target


def require_time(value: Value, field: str = "createdAt") -> datetime:
    """A datetime field; raises InvalidRecordError."""
    text = require_text(value, field)
    if _USUAL_TIME.fullmatch(text) is not None:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            raise InvalidRecordError(field, "not a datetime") from None
    if not is_datetime(text):
        raise InvalidRecordError(field, "not a datetime")
    if _PLAIN_YEARS[0] <= text <= _PLAIN_YEARS[1]:
        return datetime.fromisoformat(text)
    # Near the years 0 and 9999 an offset may leave what Python can read back.
    time_us = min(max(datetime_us(text), _OLDEST_US), _NEWEST_US)
    return _EPOCH + timedelta(microseconds=time_us)


def optional_time(value: Value, field: str = "createdAt") -> datetime | None:
    """A datetime field; None when it is absent or not a datetime."""
    try:
        return require_time(value, field)
    except InvalidRecordError:
        return None
