"""A fresh index in a temporary folder, on a PostgreSQL with the settings of `up`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.fake_accounts import FakeAccounts, Member
from bench.metric import Progress
from crawler.settings import CrawlSettings
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did
from service.index_sink import IndexSink
from service.operator_errors import ServiceError
from service.runtime.databases import INDEX, PRIVATE, database_name
from service.runtime.embedded import EmbeddedPostgres
from storage import migrate
from storage.hosts import host_rows
from storage.postgres.pool import Pool, open_pool
from storage.records.interning import Interner
from storage.repos import identities, repo_rows
from storage.states import REPO_SYNCHRONIZED


class LostError(ServiceError):
    """The index does not hold what was sent to it."""


ELSEWHERE: Final = "https://pds.example.com"
"""A host that is never contacted: the DID documents are stored beforehand."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index and its write side."""

    url: str
    pool: Pool
    names: Pool
    sink: IndexSink
    settings: CrawlSettings

    def ask(self, query: str, *values: Any) -> Any:
        """Return the first value of the first row."""
        with self.pool.connection() as conn:
            row = conn.execute(query, values).fetchone()
        assert row is not None
        return row[0]

    def settle(self) -> None:
        """Vacuum and write everything to disk, as in an index that has run for long."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")
            conn.execute("CHECKPOINT")


@contextmanager
def open_index() -> Iterator[Index]:
    """Open a migrated, empty index and its write side."""
    settings = CrawlSettings(dev=True, account_cap=None)
    with (
        tempfile.TemporaryDirectory(
            prefix="bw-bench-", ignore_cleanup_errors=True
        ) as f,
        EmbeddedPostgres(Path(f) / "pg") as server,
    ):
        name = database_name(INDEX)
        server.ensure_database(name)
        url = server.url(name)
        migrate.upgrade(url, INDEX)
        migrate.upgrade(url, PRIVATE)
        with open_pool(url, max=16) as pool, open_pool(url, max=4) as names:
            sink = IndexSink(pool, Interner(names), lambda: None)
            yield Index(url, pool, names, sink, settings)


def add_host(index: Index, url: str, *, relay: bool) -> int:
    """Store a trusted host; return its id."""
    hostname = url.partition("://")[2]
    with index.pool.connection() as conn:
        return host_rows.put_host(
            conn, hostname, url, source=host_rows.SOURCE_CONFIGURED, relay=relay
        )[0]


def add_accounts(index: Index, host: int, url: str, members: Sequence[Member]) -> None:
    """Admit accounts, with cached DID documents that name `url`."""
    with index.pool.connection() as conn:
        now = conn.execute("SELECT extract(epoch FROM now())::float8").fetchone()
        assert now is not None
        for member in members:
            document = _did_document(member, url)
            identities.save_document(conn, member.did, document, None, now[0])
        repo_rows.add_repos(conn, host, [member.did for member in members])


def import_repos(index: Index, fakes: FakeAccounts, progress: Progress) -> None:
    """Import whole repos as a backfill does, without HTTP."""
    for done, member in enumerate(fakes.members, 1):
        reader = RepoReader(member.key.public, member.did, time.time_ns() // 1_000)
        with index.sink.checkout(member.did, 0) as checkout:
            for piece in fakes.car(member):
                checkout.add(reader.feed(piece))
            checkout.finish(reader.finish())
        progress.count("repos", done, len(fakes.members))


def check_repos(index: Index, members: Sequence[Member]) -> None:
    """Raise LostError unless every repo in the index equals its fake account's.

    Figures of a run that lost commits are void.
    """
    with index.pool.connection() as conn:
        rows = conn.execute(
            "SELECT did, state, data FROM repo JOIN actor ON actor.id = repo.actor"
        )
        held = {did: (state, data) for did, state, data in rows}
    wrong = [m for m in members if held.get(m.did) != (REPO_SYNCHRONIZED, m.data)]
    if wrong:
        raise LostError(f"{len(wrong)} repos differ from what was sent")


def _did_document(member: Member, url: str) -> dict[str, Any]:
    did: Did = member.did
    return {
        "id": did,
        "alsoKnownAs": [f"at://{member.handle}"],
        "verificationMethod": [
            {
                "id": f"{did}#atproto",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": member.key.public.multikey,
            }
        ],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": url,
            }
        ],
    }
