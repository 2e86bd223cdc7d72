"""Lists of accounts: to read, to mute, or to refer to."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import (
    Names,
    RecordText,
    RowOut,
    Source,
    Value,
    require_text,
    require_time,
)
from indexer.links import Link
from indexer.links import find_links as find_all_links
from protocol.data.blob import blob_cid
from storage.collections import GRAPH_LIST
from storage.postgres.text import (
    MAX_DESCRIPTION_CHARS,
    MAX_NAME_CHARS,
    clean_optional,
    clean_text,
)
from storage.records.rows import LIST, RowTable

COLLECTION: Final = GRAPH_LIST
TABLES: Final[tuple[RowTable, ...]] = (LIST,)
SEARCHABLE: Final = True


def find_links(value: Value) -> list[Link]:
    """Whatever the description links to."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """One row: what it is for, under which name."""
    row = (
        source.actor,
        source.rkey,
        clean_text(require_text(value, "purpose"), MAX_NAME_CHARS),
        clean_text(require_text(value, "name"), MAX_NAME_CHARS),
        clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS),
        blob_cid(value.get("avatar")),
        require_time(value),
        source.indexed_at,
    )
    return [(LIST, row)]


def to_text(value: Value) -> RecordText:
    """Name and description."""
    return RecordText(
        text=clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS) or "",
        title=clean_text(require_text(value, "name"), MAX_NAME_CHARS),
    )
