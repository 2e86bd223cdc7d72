"""Likes: an edge to a post, a feed generator or a labeler."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import Names, RecordText, RowOut, Source, Value
from indexer.links import Link, subject_links
from storage.collections import FEED_LIKE, LIKE_SUBJECT
from storage.records.rows import RowTable

COLLECTION: Final = FEED_LIKE
TABLES: Final[tuple[RowTable, ...]] = ()
SEARCHABLE: Final = False


def find_links(value: Value) -> list[Link]:
    """The edge to the subject, and any other link."""
    return subject_links(value, LIKE_SUBJECT)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """None: the edge is all there is."""
    return []


def to_text(value: Value) -> RecordText:
    """Nothing to search."""
    return RecordText("")
