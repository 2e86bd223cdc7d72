"""The resolver's shared cache, in Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import psycopg

from network.http.gathering import Gathering
from network.identity.identity_cache import CachedDocument, CachedHandle
from storage.postgres.pool import Conn, Pool
from storage.repos import identities

T = TypeVar("T")


class PostgresIdentityCache:
    """An IdentityCache shared by every process on the index database.

    An unreachable database is an empty cache.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._documents: Gathering[str, identities.StoredDocument] = Gathering(
            self._load_documents
        )

    async def _load_documents(
        self, dids: Sequence[str]
    ) -> Mapping[str, identities.StoredDocument]:
        loaded = await self._run(lambda conn: identities.load_documents(conn, dids))
        return {str(did): stored for did, stored in (loaded or {}).items()}

    async def load_document(self, did: str) -> CachedDocument | None:
        stored = await self._documents.get(did)
        if stored is None:
            return None
        return CachedDocument(
            stored.document, stored.error, stored.fetched_at.timestamp()
        )

    async def save_document(self, did: str, cached: CachedDocument) -> None:
        await self._run(
            lambda conn: identities.save_document(
                conn, did, cached.document, cached.error, cached.fetched_at
            )
        )

    async def load_handle(self, handle: str) -> CachedHandle | None:
        stored = await self._run(lambda conn: identities.load_handle(conn, handle))
        if stored is None:
            return None
        return CachedHandle(stored.did, stored.error, stored.checked_at.timestamp())

    async def save_handle(self, handle: str, cached: CachedHandle) -> None:
        await self._run(
            lambda conn: identities.save_handle(
                conn, handle, cached.did, cached.error, cached.checked_at
            )
        )

    async def _run(self, work: Callable[[Conn], T]) -> T | None:
        def once() -> T | None:
            try:
                with self._pool.connection() as conn:
                    return work(conn)
            except psycopg.OperationalError:
                return None

        return await asyncio.to_thread(once)
