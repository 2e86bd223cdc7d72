"""Starter packs: a list and feeds to begin with."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import (
    Names,
    RecordText,
    RowOut,
    Source,
    Value,
    require_target,
    require_text,
    require_time,
)
from indexer.links import Link
from indexer.links import find_links as find_all_links
from storage.collections import GRAPH_STARTERPACK
from storage.postgres.text import (
    MAX_DESCRIPTION_CHARS,
    MAX_NAME_CHARS,
    clean_optional,
    clean_text,
)
from storage.records.rows import STARTER_PACK, RowTable

COLLECTION: Final = GRAPH_STARTERPACK
TABLES: Final[tuple[RowTable, ...]] = (STARTER_PACK,)
SEARCHABLE: Final = True


def find_links(value: Value) -> list[Link]:
    """The list and the feeds."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """One row: which list, under which name."""
    list_actor, _, list_rkey = names.target(require_target(value, "list"))
    row = (
        source.actor,
        source.rkey,
        clean_text(require_text(value, "name"), MAX_NAME_CHARS),
        clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS),
        list_actor,
        list_rkey,
        require_time(value),
        source.indexed_at,
    )
    return [(STARTER_PACK, row)]


def to_text(value: Value) -> RecordText:
    """Name and description."""
    return RecordText(
        text=clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS) or "",
        title=clean_text(require_text(value, "name"), MAX_NAME_CHARS),
    )
