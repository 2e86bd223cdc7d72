"""Lexicons of new collections: from a folder, the shipped ones, or the network.

A scheduled batch, bounded in files, lookups and documents. Nothing here runs inside a
request or while records are applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from crawler.identities.network_clients import OpenClients
from indexer.collections.lexicon_store import LEXICON_JOB, shipped, store_lexicon
from network.errors import IdentityError, LexiconNotFoundError, NetworkError, XrpcError
from network.http.dns import DnsTxtLookup, TxtLookup
from network.identity.lexicon_source import LexiconSource
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from protocol.limits import MAX_LEXICON_BYTES
from storage.jobs import ClaimedJob, claim_jobs, finish_jobs, put_jobs, retry_job
from storage.lexicons import (
    FOLDER,
    NETWORK,
    fetch_lexicons,
    new_collections,
    note_failure,
    note_unknown,
    requeue_step,
)
from storage.outbox import outbox_backlog
from storage.postgres.pool import Conn, Pool
from storage.postgres.transaction import whole_transaction

log = logging.getLogger(__name__)

MAX_FILES: Final = 5_000
_COLLECTIONS_A_RUN: Final = 1_000
_LOOKUPS_A_RUN: Final = 20
_LOOKUPS_AT_ONCE: Final = 4
_LOOKUP_S: Final = 20.0
_LEASE_S: Final = 180.0
_FIRST_WAIT_S: Final = 3_600.0
_LONGEST_WAIT_S: Final = 7 * 86_400.0
_REQUEUED: Final = 2_000
_REQUEUE_STEPS: Final = 10
_MOST_WAITING: Final = 20_000
"""Search documents that may wait while more are queued."""


@dataclass(slots=True)
class LexiconLookup:
    """The scheduled work on lexicons. `folder` holds documents of the operator.

    Without `resolves`, as in a development network, nobody is asked.
    """

    pool: Pool
    open_clients: OpenClients
    folder: Path | None = None
    resolves: bool = True
    make_txt: Callable[[], TxtLookup] = DnsTxtLookup
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _last_collection: int = 0

    def run(self) -> dict[str, int]:
        """Read the folder, look up new lexicons, and queue documents to read anew."""
        return {
            "files": self.read_folder(),
            "new": self.note_new(),
            "found": self.look_up(),
            "requeued": self.requeue(),
        }

    def read_folder(self) -> int:
        """Store new and changed documents of the folder; return their number."""
        if self.folder is None or not self.folder.is_dir():
            return 0
        stored = 0
        for path in sorted(self.folder.rglob("*.json"))[:MAX_FILES]:
            try:
                stat = path.stat()
                mark = stat.st_mtime_ns, stat.st_size
                if self._seen.get(path) == mark:
                    continue
                self._seen[path] = mark
                store_file(self.pool, path)
                stored += 1
            except (OSError, ProtocolError) as error:
                log.warning("lexicon %s was not read: %s", path, error)
        return stored

    def note_new(self) -> int:
        """Queue lookups of the lexicons of new collections; return their number."""
        with self.pool.connection() as conn, whole_transaction(conn):
            found = new_collections(
                conn, self._last_collection, limit=_COLLECTIONS_A_RUN
            )
            fresh = note_unknown(conn, [nsid for _, nsid in found])
            put_jobs(conn, LEXICON_JOB, fresh)
        if found:
            self._last_collection = found[-1][0]
        return len(fresh)

    def look_up(self) -> int:
        """Look up lexicons that are due; return the number of those found."""
        with self.pool.connection() as conn, whole_transaction(conn):
            jobs = claim_jobs(conn, LEXICON_JOB, limit=_LOOKUPS_A_RUN, lease_s=_LEASE_S)
        if not jobs:
            return 0
        asked: list[ClaimedJob] = []
        found = 0
        for job in jobs:
            raw = _shipped_document(job.key)
            if raw is None and self.resolves:
                asked.append(job)
            elif raw is None:
                self._fail(job, LexiconNotFoundError("lookups are off"))
            else:
                found += self._keep(job, raw)
        if asked:
            found += asyncio.run(self._ask(asked))
        return found

    async def _ask(self, jobs: Sequence[ClaimedJob]) -> int:
        slots = asyncio.Semaphore(_LOOKUPS_AT_ONCE)
        async with self.open_clients() as clients:
            source = LexiconSource(clients.fetcher, clients.resolver, self.make_txt())
            results = await asyncio.gather(
                *(self._ask_for(source, job, slots) for job in jobs)
            )
        return sum(results)

    async def _ask_for(
        self, source: LexiconSource, job: ClaimedJob, slots: asyncio.Semaphore
    ) -> int:
        async with slots:
            try:
                async with asyncio.timeout(_LOOKUP_S):
                    value = await source.find(job.key)
                raw = orjson.dumps(to_json(value))
            except _FAILURES as error:
                await asyncio.to_thread(self._fail, job, error)
                return 0
        return await asyncio.to_thread(self._keep, job, raw)

    def _keep(self, job: ClaimedJob, raw: bytes) -> int:
        try:
            if len(raw) > MAX_LEXICON_BYTES:
                raise LexiconNotFoundError("the document is too large")
            with self.pool.connection() as conn, whole_transaction(conn):
                store_lexicon(conn, raw, NETWORK, job.key)
                finish_jobs(conn, [job.id])
        except (ProtocolError, LexiconNotFoundError) as error:
            self._fail(job, error)
            return 0
        return 1

    def _fail(self, job: ClaimedJob, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 4.0 ** min(job.tries, 8))
        with self.pool.connection() as conn, whole_transaction(conn):
            note_failure(conn, job.key, text)
            retry_job(conn, job.id, text, wait=wait)

    def requeue(self) -> int:
        """Queue documents of collections with a new plan, while few are waiting."""
        queued = 0
        for _ in range(_REQUEUE_STEPS):
            with self.pool.connection() as conn, whole_transaction(conn):
                if outbox_backlog(conn, _MOST_WAITING) >= _MOST_WAITING:
                    break
                step = requeue_step(conn, limit=_REQUEUED)
            queued += step
            if not step:
                break
        return queued


_FAILURES: Final = (
    IdentityError,
    NetworkError,
    XrpcError,
    ProtocolError,
    TimeoutError,
    ValueError,
)


def store_file(pool: Pool, path: Path) -> str:
    """Store the document in a file; return its NSID.

    Raises OSError and InvalidLexiconError.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_LEXICON_BYTES + 1)
    with pool.connection() as conn, whole_transaction(conn):
        name = store_lexicon(conn, raw, FOLDER)
        forget_lookup(conn, name)
    return name


def forget_lookup(conn: Conn, nsid: str) -> None:
    """Remove the queued lookup of a lexicon. Does not commit."""
    conn.execute("DELETE FROM job WHERE kind = %s AND key = %s", (LEXICON_JOB, nsid))


def queue_lookup(conn: Conn, nsid: str) -> None:
    """Queue the lookup of a lexicon at once. Does not commit."""
    if nsid not in fetch_lexicons(conn, [nsid]):
        note_unknown(conn, [nsid])
    put_jobs(conn, LEXICON_JOB, [nsid])


def _shipped_document(nsid: str) -> bytes | None:
    document = shipped().documents().get(nsid)
    if document is None:
        return None
    return orjson.dumps({"lexicon": 1, "id": nsid, "defs": dict(document.definitions)})
