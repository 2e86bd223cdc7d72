"""DID documents from the mirror, for identity resolution on the same database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg

from network.http.gathering import Gathering
from network.identity.did_sources import MirroredDocument
from plc import operation_log
from plc.operation import LogEntry
from plc.operation_document import operation_document
from plc.operation_format import Tombstone
from protocol.syntax import Did
from storage.postgres.pool import Pool

MAX_AGE_S: Final = 60.0


class MirrorLookup:
    """A `DocumentMirror` of proven DID documents.

    It returns nothing unless the mirror was caught up within the last `max_age_s`
    seconds, or if the database is unreachable.
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
        self._gathering: Gathering[str, MirroredDocument] = Gathering(self._fetch)

    async def find(self, did: str) -> MirroredDocument | None:
        """Return the proven state of a did:plc; None means to ask the directory."""
        return await self._gathering.get(did)

    async def _fetch(self, dids: Sequence[str]) -> dict[str, MirroredDocument]:
        return await asyncio.to_thread(self._read, dids)

    def _read(self, dids: Sequence[str]) -> dict[str, MirroredDocument]:
        try:
            with self._pool.connection() as conn:
                at = operation_log.load_feed(conn, self._directory).caught_up_at
                if at is None or self._now() - at.timestamp() > self._max_age_s:
                    return {}
                logs = operation_log.load_logs(conn, dids)
        except psycopg.OperationalError:
            return {}
        return {did: MirroredDocument(_document(did, log)) for did, log in logs.items()}


def _document(did: Did, log: Sequence[LogEntry]) -> Any | None:
    last = next(entry for entry in reversed(log) if not entry.nullified)
    if isinstance(last.operation, Tombstone):
        return None
    return operation_document(did, last.operation)
