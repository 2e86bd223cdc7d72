"""Feed generators: feeds that a service offers."""

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
from protocol.errors import InvalidRecordError
from protocol.syntax import is_did
from storage.collections import FEED_GENERATOR as COLLECTION_NSID
from storage.postgres.text import (
    MAX_DESCRIPTION_CHARS,
    MAX_NAME_CHARS,
    clean_optional,
    clean_text,
)
from storage.records.rows import FEED_GENERATOR, RowTable

COLLECTION: Final = COLLECTION_NSID
TABLES: Final[tuple[RowTable, ...]] = (FEED_GENERATOR,)
SEARCHABLE: Final = True


def find_links(value: Value) -> list[Link]:
    """The service's DID, and any other link."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """One row: which service, under which name."""
    service = require_text(value, "did")
    if not is_did(service):
        raise InvalidRecordError("did", "not a DID")
    row = (
        source.actor,
        source.rkey,
        service,
        clean_text(require_text(value, "displayName"), MAX_NAME_CHARS),
        clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS),
        blob_cid(value.get("avatar")),
        require_time(value),
        source.indexed_at,
    )
    return [(FEED_GENERATOR, row)]


def to_text(value: Value) -> RecordText:
    """Name and description."""
    return RecordText(
        text=clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS) or "",
        title=clean_text(require_text(value, "displayName"), MAX_NAME_CHARS),
    )
