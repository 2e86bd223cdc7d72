"""The searchable texts of records, for the search drain."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from indexer.collections import generic
from indexer.collections.plan_cache import PlanCache
from indexer.collections.registry import COLLECTIONS, GENERIC, collection_for
from indexer.collections.source import optional_time
from search.documents import RecordText
from search.record_documents import Texts
from storage.collections import COLLECTION_IDS
from storage.postgres.pool import Conn

PLANS: Final = PlanCache()


def _read(nsid: str, value: Mapping[str, Any]) -> RecordText | None:
    collection = collection_for(nsid)
    if collection is GENERIC:
        return generic.read_text(value, PLANS.get(nsid))
    return None if collection.to_text is None else collection.to_text(value)


def _prepare(conn: Conn, nsids: Collection[str]) -> None:
    PLANS.load(conn, [nsid for nsid in nsids if nsid not in COLLECTIONS])


TEXTS: Final = Texts(
    read=_read,
    read_time=optional_time,
    unsearched=tuple(
        sorted(COLLECTION_IDS[n] for n, c in COLLECTIONS.items() if c.to_text is None)
    ),
    prepare=_prepare,
)
