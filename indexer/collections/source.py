"""The shape of a collection's description, and readers of record fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from indexer.links import Link, Target, find_links, parse_link
from protocol.errors import InvalidRecordError
from protocol.syntax import datetime_us, is_datetime
from search.documents import RecordText
from storage.collections import NO_COLLECTION, NO_RKEY
from storage.records.rows import RowTable

Value = Mapping[str, Any]
"""A decoded record (protocol.data.cbor.decode_fast: links are bytes)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OLDEST_US: Final = -62_135_596_800_000_000  # 0001-01-01
_NEWEST_US: Final = 253_402_300_799_999_999  # 9999-12-31
_PLAIN_YEARS: Final = ("0002", "9999")
# The usual form of a time; all others are parsed in full.
_USUAL_TIME: Final = re.compile(
    r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", re.ASCII
)


class Source(NamedTuple):
    """The address of a record, and the time of its first indexing."""

    actor: int
    rkey: int
    indexed_at: datetime


@dataclass(frozen=True, slots=True)
class Names:
    """Ids of all names in the links of a batch."""

    actors: Mapping[str, int]
    collections: Mapping[str, int]
    rkeys: Mapping[str, int]

    def within(self, links: Sequence[Link]) -> Names:
        return Names(
            {did: self.actors[did] for _, did, _, _ in links if did},
            {n: self.collections[n] for _, _, n, _ in links if n is not None},
            {r: self.rkeys[r] for _, _, _, r in links if type(r) is str},
        )

    def target(self, target: Target) -> tuple[int, int, int]:
        """Return (actor, collection, rkey), with 0 for a part that is not named.

        Raises InvalidRecordError for a link beyond the limit of one record.
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


def no_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return no rows: the record's links are all that is kept beside it."""
    return []


@dataclass(frozen=True, slots=True)
class Collection:
    """Description of a collection: its rows, its searchable text and its links.

    `to_rows` raises InvalidRecordError for a record of another shape than its
    lexicon's: it then has neither rows nor links. `to_text` is called only for
    records that have rows; it is None if the collection is not searched.
    """

    nsid: str
    table: RowTable | None = None
    to_rows: Callable[[Value, Source, Names], list[RowOut]] = no_rows
    to_text: Callable[[Value], RecordText] | None = None
    find_links: Callable[[Value], list[Link]] = find_links
    listed: bool = False
    """True if its records are listed by the time of their first indexing."""


def strings_of(value: Any) -> list[str]:
    """Return the strings of a list; nothing for any other value."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, str)]


def require_text(value: Value, field: str) -> str:
    """Return a string field; raises InvalidRecordError."""
    text = value.get(field)
    if type(text) is not str:
        raise InvalidRecordError(field, "not a string")
    return text


def require_target(value: Value, field: str) -> Target:
    """Return the target of a link field; raises InvalidRecordError."""
    target = parse_link(require_text(value, field))
    if target is None:
        raise InvalidRecordError(field, "not a link to a record or an account")
    return target


def require_time(value: Value, field: str = "createdAt") -> datetime:
    """Return a datetime field; raises InvalidRecordError."""
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
    # Near the years 0 and 9999 an offset may leave the range of Python's datetime.
    time_us = min(max(datetime_us(text), _OLDEST_US), _NEWEST_US)
    return _EPOCH + timedelta(microseconds=time_us)


def optional_time(value: Value, field: str = "createdAt") -> datetime | None:
    """Return a datetime field; None if it is absent or not a datetime."""
    try:
        return require_time(value, field)
    except InvalidRecordError:
        return None
