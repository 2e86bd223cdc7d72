"""Documents for tests of search."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from search.documents import RecordDocument
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.records.addresses import Address

POST = COLLECTION_IDS[FEED_POST]
START = datetime(2026, 1, 1, tzinfo=UTC)
DIDS = {n: f"did:plc:{'abc'[n - 1] * 24}" for n in (1, 2, 3)}


def document(n: int, text: str, **fields: Any) -> RecordDocument:
    actor = fields.pop("actor", 1)
    base = RecordDocument(
        address=Address(actor, fields.pop("collection", POST), n),
        uri="",
        collection=FEED_POST,
        rkey=str(n),
        did=DIDS[actor],
        handle=None,
        title="",
        text=text,
        langs=(),
        tags=(),
        mentions=(),
        domains=(),
        urls=(),
        features=(),
        quotes=(),
        reply_parent=None,
        reply_root=None,
        created_at=START,
        sort_at=START + timedelta(minutes=n),
        likes=0,
        reposts=0,
        replies=0,
        quote_count=0,
    )
    return replace(base, **fields)
