"""Documents out of the mirror, for whoever resolves identities on this database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg

from network.http.gathering import Gathering
from network.identity.did_sources import MirroredDocument
from plc import operation_log
from plc.operation import Tombstone, operation_document
from protocol.syntax import Did
from storage.postgres.pool import Pool

MAX_AGE_S: Final = 60.0

Found = MirroredDocument


class MirrorLookup:
    """A `DocumentMirror`: what is proven of a DID, as its document.

    Answers only while the mirror was caught up within the last `max_age_s` seconds.
    A database that cannot be reached is a mirror that holds nothing.
    """

    def __init__(
        self,
        pool: Pool,
        directory: str,
        *,
        max_age_s: float = MAX_AGE_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._directory = directory.rstrip("/")
        self._max_age_s = max_age_s
        self._now = now
        self._gathering: Gathering[str, Found] = Gathering(self._fetch)

    async def find(self, did: str) -> MirroredDocument | None:
        """The proven state of a did:plc; None: the directory must be asked."""
        return await self._gathering.get(did)

    async def _fetch(self, dids: Sequence[str]) -> dict[str, Found]:
        return await asyncio.to_thread(self._read, dids)

    def _read(self, dids: Sequence[str]) -> dict[str, Found]:
        try:
            with self._pool.connection() as conn:
                caught_up_at = operation_log.load_feed(
                    conn, self._directory
                ).caught_up_at
                if caught_up_at is None:
                    return {}
                if self._now() - caught_up_at.timestamp() > self._max_age_s:
                    return {}
                logs = operation_log.load_logs(conn, dids)
        except psycopg.OperationalError:
            return {}
        return {
            did: MirroredDocument(document_of(did, log)) for did, log in logs.items()
        }


def document_of(did: Did, log: Sequence[Any]) -> Any | None:
    """The document that the last standing entry of a log stands for; None: given up."""
    last = next(entry for entry in reversed(log) if not entry.nullified)
    if isinstance(last.operation, Tombstone):
        return None
    return operation_document(did, last.operation)
