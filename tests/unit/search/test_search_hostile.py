"""Queries made to cost much: each stays within its budget of database time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sample_documents import DIDS, POST, START, document

from search.engines.contract import TooCostlyError
from search.engines.postgres import PostgresEngine
from search.engines.postgres.reading import BUDGET_MS
from search.query.nodes import (
    AnyOf,
    Filter,
    Kind,
    Query,
    Words,
    all_of,
    any_of,
    filters,
    record_key,
)
from search.query.operators import InvalidQueryError
from search.query.parser import MAX_PARTS, parse_query
from storage.postgres.pool import open_pool
from storage.records.addresses import Address

DOCUMENTS = 3_000
SLACK_S = 1.0
"""Time of a busy machine between the server and the test."""
WORDS = [f"{a}{b}" for a in "abcdefghkl" for b in ("", "a", "bird", "stone", "もじ")]


@pytest.fixture(scope="module")
def engine(databases: Any) -> Iterator[PostgresEngine]:
    url = databases.make("index")
    rng = random.Random(3)
    with open_pool(url, min=1, max=2) as pool:
        engine = PostgresEngine(pool, caps=(200, 600, 1_000, 4_000))
        with pool.connection() as conn:
            for number, did in DIDS.items():
                conn.execute(
                    "INSERT INTO actor (id, did) VALUES (%s, %s)", (number, did)
                )
            for start in range(0, DOCUMENTS, 300):
                engine.put(
                    conn,
                    [
                        document(
                            start + n + 1,
                            " ".join(rng.choices(WORDS, k=9)),
                            actor=rng.randrange(1, 4),
                            likes=int(rng.paretovariate(0.6)),
                            langs=(rng.choice(("en", "ja")),),
                            sort_at=START + timedelta(seconds=rng.randrange(9_999)),
                        )
                        for n in range(300)
                    ],
                )
        yield engine
    databases.drop(url)


def hostile_query(rng: random.Random) -> Query:
    """Return a query of one of many shapes."""
    sort: Any = rng.choice(("latest", "top"))
    words = rng.choices(WORDS, k=rng.randrange(1, MAX_PARTS))
    shape = rng.randrange(9)
    base = Query(sort=sort)
    if rng.random() < 0.2:
        base = replace(base, since=START + timedelta(seconds=rng.randrange(9_999)))
    if rng.random() < 0.2:
        base = replace(
            base, until=datetime(rng.choice((1, 1066, 2148)), 1, 3, tzinfo=UTC)
        )
    if rng.random() < 0.1:
        base = replace(base, min_likes=rng.choice((1, 5, 10**9)))
    dids = [f"did:plc:{n:024d}" for n in range(rng.choice((3, 200, 3_000)))]
    authors = any_of(*filters(Kind.AUTHOR, [*dids, DIDS[1]]))
    records = AnyOf(
        filters(
            Kind.RECORD,
            [record_key(Address(1, POST, rng.randrange(9_999))) for _ in range(500)],
        )
    )
    texts = (
        " OR ".join(words),
        " ".join("-" + word for word in words),
        " ".join(words),
        '"' + " ".join(words) + '"',
        "(" + ") OR (-".join(words) + ")",
        " ".join(f"lang:{lang}" for lang in ("en", "ja", "xx")) + " -lang:en",
    )
    if shape < len(texts):
        with suppress(InvalidQueryError):
            return parse_query(texts[shape], resolve_handle=lambda _: None, base=base)
    if shape == 6:
        return replace(base, where=Words((rng.choice("abcdefgh日"),), prefix=True))
    where = rng.choice(
        (
            authors,
            records,
            any_of(authors, Words((words[0],))),
            any_of(records, authors),
        )
    )
    extra = Filter(
        rng.choice((Kind.URL, Kind.TAG)), rng.choice(("x" * 5_000, "\0", "'"))
    )
    return replace(base, where=all_of(where, *([extra] if rng.random() < 0.3 else [])))


def ask_all(engine: PostgresEngine, count: int, seed: int) -> None:
    rng = random.Random(seed)
    refused = 0
    for _ in range(count):
        query = hostile_query(rng)
        after = None
        for _ in range(rng.choice((1, 1, 3))):
            started = time.monotonic()
            try:
                page = engine.search_records(
                    query, collections=[POST], limit=rng.choice((1, 25)), after=after
                )
            except TooCostlyError:
                refused += 1
                break
            finally:
                assert time.monotonic() - started < BUDGET_MS / 1000 + SLACK_S, query
            if not page.hits:
                break
            after = page.hits[-1].keyset
        name = rng.choice(
            (rng.choice("abcdefgh"), "%", "_", "\\", "a\0b", "日", "a" * 999)
        )
        try:
            engine.typeahead(name, limit=10, follows=range(1, 5_000))
            engine.search_actors(name, limit=10)
        except TooCostlyError:
            refused += 1
    # A busy machine refuses some.
    assert refused <= max(5, count // 20)


def test_hostile_queries_are_bounded(engine: PostgresEngine) -> None:
    ask_all(engine, 250, 1)


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_very_many_hostile_queries_are_bounded(engine: PostgresEngine) -> None:
    ask_all(engine, 100_000, 2)


def test_query_over_its_budget_is_refused(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search.engines.postgres import latest

    slow = f" AND (SELECT true FROM pg_sleep({BUDGET_MS / 1000 + 0.1}))"
    monkeypatch.setattr(latest, "SPAN", latest.SPAN + slow)
    monkeypatch.setattr(latest, "HIDDEN", latest.HIDDEN + slow)
    with pytest.raises(TooCostlyError, match="add a word"):
        engine.search_records(Query(), collections=[POST], limit=5)
    monkeypatch.undo()
    assert engine.search_records(Query(), collections=[POST], limit=5).hits
