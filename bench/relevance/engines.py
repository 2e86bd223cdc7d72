"""The engines under measurement, and their answers by posts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.relevance.baseline import Baseline
from bench.relevance.filling import POST
from search.engines.contract import SearchEngine
from search.engines.spelling import refresh_words
from search.query.nodes import Query, Sort
from search.query.parser import parse_query
from service.runtime.config import Config
from service.runtime.search_engines import make_engine
from storage.postgres.pool import Pool
from storage.records.addresses import Address

Search = Callable[[str, Sort, int], Sequence[Address]]
"""A search: (query text, order, limit) -> addresses, best first."""

BASELINE: Final = Baseline.name
_PREFIX: Final = "bwbench"


def make_engines(pool: Pool) -> list[SearchEngine]:
    """Return `postgres`, and the engine outside Postgres that the settings name.

    Its indexes have a prefix of their own, so that a running provider keeps its own.
    """
    config = Config.read().model_copy(update={"search_prefix": _PREFIX})
    names = dict.fromkeys(["postgres", config.search_engine])
    return [make_engine(config, pool, name) for name in names]


def settle(pool: Pool) -> None:
    """Do the periodic work of the engine inside Postgres."""
    with pool.connection() as conn:
        refresh_words(conn)


def search_engine(engine: SearchEngine, handles: Mapping[str, str]) -> Search:
    """Return the search of an engine; `handles` maps handles to DIDs."""

    def search(text: str, sort: Sort, limit: int) -> Sequence[Address]:
        query = _parse(text, sort, handles)
        page = engine.search_records(query, collections=[POST], limit=limit)
        return [hit.address for hit in page.hits]

    return search


def search_baseline(baseline: Baseline, handles: Mapping[str, str]) -> Search:
    """Return the search of the baseline, whose order is always by BM25."""

    def search(text: str, sort: Sort, limit: int) -> Sequence[Address]:
        return baseline.search(_parse(text, sort, handles), limit)

    return search


def _parse(text: str, sort: Sort, handles: Mapping[str, str]) -> Query:
    return parse_query(text, resolve_handle=handles.get, base=Query(sort=sort))
