"""Members of lists. Only the owner of a list can put somebody on it."""

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
from storage.collections import GRAPH_LISTITEM
from storage.records.rows import LIST_ITEM, RowTable

COLLECTION: Final = GRAPH_LISTITEM
TABLES: Final[tuple[RowTable, ...]] = (LIST_ITEM,)
SEARCHABLE: Final = False


def find_links(value: Value) -> list[Link]:
    """The list and the member."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """One row; none when the list is somebody else's."""
    list_actor, _, list_rkey = names.target(require_target(value, "list"))
    subject, _, _ = names.target(require_target(value, "subject"))
    if list_actor != source.actor:
        return []
    return [(LIST_ITEM, (source.actor, source.rkey, list_actor, list_rkey, subject))]


def to_text(value: Value) -> RecordText:
    """Nothing to search."""
    return RecordText("")
