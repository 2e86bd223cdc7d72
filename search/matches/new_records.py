"""Choice of the records that saved searches are matched with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from search.documents import RecordDocument
from storage.outbox import Cause
from storage.records.addresses import Address

FETCHED_AGE: Final = timedelta(days=1)
"""Records of a fetched repo up to this age are matched with saved searches."""


def choose_new(
    entries: Sequence[tuple[int, Address, str]], documents: Sequence[RecordDocument]
) -> list[RecordDocument]:
    """Return documents of new and changed records, in order of their entries.

    Of a fetched repo these are the recent ones: its older records are not new.
    """
    by_address = {document.address: document for document in documents}
    after = datetime.now(UTC) - FETCHED_AGE
    new: dict[Address, RecordDocument] = {}
    for _, address, cause in entries:
        document = by_address.get(address)
        if document is not None and (
            cause == Cause.WRITTEN
            or (cause == Cause.FETCHED and document.created_at > after)
        ):
            new[address] = document
    return [*new.values()]
