"""Profiles: what an account says of itself. Only the record `self` counts."""

from __future__ import annotations

from typing import Final

from indexer.collections.source import (
    Names,
    RecordText,
    RowOut,
    Source,
    Value,
    optional_time,
)
from indexer.links import Link
from indexer.links import find_links as find_all_links
from protocol.data.blob import blob_cid
from storage.collections import ACTOR_PROFILE, RKEY_SELF
from storage.postgres.text import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, clean_optional
from storage.records.rows import PROFILE, RowTable

COLLECTION: Final = ACTOR_PROFILE
TABLES: Final[tuple[RowTable, ...]] = (PROFILE,)
SEARCHABLE: Final = True


def find_links(value: Value) -> list[Link]:
    """The pinned post, the starter pack it came from, and any other link."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """One row, of the record with the key `self`."""
    if source.rkey != RKEY_SELF:
        return []
    row = (
        source.actor,
        clean_optional(value.get("displayName"), MAX_NAME_CHARS),
        clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS),
        blob_cid(value.get("avatar")),
        blob_cid(value.get("banner")),
        optional_time(value),
        source.indexed_at,
    )
    return [(PROFILE, row)]


def to_text(value: Value) -> RecordText:
    """Name and description. The document of an account is made of its row."""
    return RecordText(
        text=clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS) or "",
        title=clean_optional(value.get("displayName"), MAX_NAME_CHARS) or "",
    )
