"""The search engine that the settings name."""

from __future__ import annotations

from search.engines.contract import SearchEngine
from search.engines.meilisearch.engine import MeilisearchEngine
from search.engines.meilisearch.index_client import MeiliClient
from search.engines.opensearch.cluster_client import OpenSearchClient
from search.engines.opensearch.cluster_engine import OpenSearchEngine
from search.engines.postgres import PostgresEngine
from service.operator_errors import ConfigError
from service.runtime.config import Config
from storage.postgres.pool import Pool


def make_engine(config: Config, pool: Pool, name: str | None = None) -> SearchEngine:
    """Return the engine of the settings, or the one that is named.

    No server is asked before the first search or write. Raises ConfigError.
    """
    name = name or config.search_engine
    if name == "postgres":
        return PostgresEngine(pool)
    if config.search_url is None:
        raise ConfigError(f"search_engine is {name}, but search_url is not set")
    key = config.search_key.get_secret_value() if config.search_key else ""
    if name == "opensearch":
        cluster = OpenSearchClient(config.search_url, key)
        return OpenSearchEngine(pool, cluster, prefix=config.search_prefix)
    client = MeiliClient(config.search_url, key)
    return MeilisearchEngine(pool, client, prefix=config.search_prefix)
