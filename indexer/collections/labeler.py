"""Labeler services: accounts that offer labels. Only the record `self` counts."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import (
    Names,
    RecordText,
    RowOut,
    Source,
    Value,
    require_time,
)
from indexer.links import Link
from indexer.links import find_links as find_all_links
from storage.collections import LABELER_SERVICE, RKEY_SELF
from storage.records.rows import LABELER, RowTable

COLLECTION: Final = LABELER_SERVICE
TABLES: Final[tuple[RowTable, ...]] = (LABELER,)
SEARCHABLE: Final = False


def find_links(value: Value) -> list[Link]:
    """Any link."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """One row, of the record with the key `self`."""
    if source.rkey != RKEY_SELF:
        return []
    return [(LABELER, (source.actor, require_time(value), source.indexed_at))]


def to_text(value: Value) -> RecordText:
    """Nothing to search."""
    return RecordText("")
