"""Blocks: an edge to an account."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import Names, RecordText, RowOut, Source, Value
from indexer.links import Link, account_links
from storage.collections import BLOCK_SUBJECT, GRAPH_BLOCK
from storage.records.rows import RowTable

COLLECTION: Final = GRAPH_BLOCK
TABLES: Final[tuple[RowTable, ...]] = ()
SEARCHABLE: Final = False


def find_links(value: Value) -> list[Link]:
    """The edge to the subject, and any other link."""
    return account_links(value, BLOCK_SUBJECT)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """None: the edge is all there is."""
    return []


def to_text(value: Value) -> RecordText:
    """Nothing to search."""
    return RecordText("")
