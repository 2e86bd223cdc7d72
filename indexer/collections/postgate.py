"""Post gates: who may quote. Read from the record when a post is shown."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import (
    Names,
    RecordText,
    RowOut,
    Source,
    Value,
    require_target,
)
from indexer.links import Link
from indexer.links import find_links as find_all_links
from storage.collections import FEED_POSTGATE
from storage.records.rows import RowTable

COLLECTION: Final = FEED_POSTGATE
TABLES: Final[tuple[RowTable, ...]] = ()
SEARCHABLE: Final = False


def find_links(value: Value) -> list[Link]:
    """The edge to the post, and to hidden replies, detached quotes and lists."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """None: the edge is all there is, but there must be one."""
    require_target(value, "post")
    return []


def to_text(value: Value) -> RecordText:
    """Nothing to search."""
    return RecordText("")
