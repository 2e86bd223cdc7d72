"""The searchable texts of records, for the search drain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from indexer.collections.registry import COLLECTIONS, collection_for
from indexer.collections.source import optional_time
from search.documents import RecordText
from search.drain import Texts
from storage.collections import COLLECTION_IDS


def _read(nsid: str, value: Mapping[str, Any]) -> RecordText | None:
    to_text = collection_for(nsid).to_text
    return None if to_text is None else to_text(value)


TEXTS: Final = Texts(
    read=_read,
    read_time=optional_time,
    unsearched=tuple(
        sorted(COLLECTION_IDS[n] for n, c in COLLECTIONS.items() if c.to_text is None)
    ),
)
