"""The engines of the contract suite, on the databases and servers that a test has."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fake_meilisearch import FakeMeilisearch
from fake_opensearch import FakeOpenSearch
from loopback_fakes import serving

from search.engines.contract import SearchEngine
from search.engines.meilisearch.engine import MeilisearchEngine
from search.engines.meilisearch.index_client import MeiliClient
from search.engines.opensearch.cluster_client import OpenSearchClient
from search.engines.opensearch.cluster_engine import OpenSearchEngine
from search.engines.postgres import PostgresEngine
from storage.postgres.pool import Pool


@contextmanager
def open_postgres(pool: Pool) -> Iterator[SearchEngine]:
    """Open the engine inside Postgres."""
    yield PostgresEngine(pool)


@contextmanager
def open_meilisearch_fake(pool: Pool) -> Iterator[SearchEngine]:
    """Open the engine on the fake server, with slices of a few records."""
    fake = FakeMeilisearch(key="secret")
    with serving(fake) as url:
        engine = meilisearch_at(pool, url, "secret", hot_records=20)
        yield engine
        engine.close()


def meilisearch_at(
    pool: Pool, url: str, key: str, *, hot_records: int = 20_000, prefix: str = "t"
) -> MeilisearchEngine:
    """Return an engine of a server."""
    client = MeiliClient(url, key, sleep=lambda _: None)
    return MeilisearchEngine(pool, client, prefix=prefix, hot_records=hot_records)


@contextmanager
def open_meilisearch_real(pool: Pool) -> Iterator[SearchEngine]:
    """Open the engine on the server of MEILI_URL; remove its indexes at the end."""
    client = MeiliClient(os.environ["MEILI_URL"], os.environ.get("MEILI_KEY", ""))
    prefix = f"test{uuid.uuid4().hex[:8]}"
    engine = MeilisearchEngine(pool, client, prefix=prefix, hot_records=40)
    try:
        yield engine
    finally:
        engine.discard([])
        engine.close()


@contextmanager
def open_opensearch_fake(pool: Pool) -> Iterator[SearchEngine]:
    """Open the engine on the fake cluster."""
    with serving(FakeOpenSearch(key="user:secret")) as url:
        engine = OpenSearchEngine(
            pool, OpenSearchClient(url, "user:secret"), prefix="t"
        )
        yield engine
        engine.close()


@contextmanager
def open_opensearch_real(pool: Pool) -> Iterator[SearchEngine]:
    """Open the engine on the cluster of OPENSEARCH_URL; remove its indexes after it."""
    url, key = os.environ["OPENSEARCH_URL"], os.environ.get("OPENSEARCH_KEY", "")
    prefix = f"test{uuid.uuid4().hex[:8]}"
    engine = OpenSearchEngine(pool, OpenSearchClient(url, key), prefix=prefix)
    try:
        yield engine
    finally:
        engine.discard([])
        engine.close()


OPENERS: dict[str, Callable[[Pool], Any]] = {
    "postgres": open_postgres,
    "meilisearch-fake": open_meilisearch_fake,
    "meilisearch": open_meilisearch_real,
    "opensearch-fake": open_opensearch_fake,
    "opensearch": open_opensearch_real,
}
NEEDS = {"meilisearch": "MEILI_URL", "opensearch": "OPENSEARCH_URL"}
