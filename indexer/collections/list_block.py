"""Blocks of everybody on a list: an edge to the list."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import Names, RecordText, RowOut, Source, Value
from indexer.links import Link
from indexer.links import find_links as find_all_links
from storage.collections import GRAPH_LISTBLOCK
from storage.records.rows import RowTable

COLLECTION: Final = GRAPH_LISTBLOCK
TABLES: Final[tuple[RowTable, ...]] = ()
SEARCHABLE: Final = False


def find_links(value: Value) -> list[Link]:
    """The list whose members are blocked."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """None: the edge is all there is."""
    return []


def to_text(value: Value) -> RecordText:
    """Nothing to search."""
    return RecordText("")
