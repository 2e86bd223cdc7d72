"""The last step of the ladder: what is found where nothing holds the whole query."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from test_search_postgres import DIDS, POST, document

from search.engines.postgres import PostgresEngine
from search.ladder import _all_but_one
from search.query.nodes import Query, Sort, Words
from search.query.parser import parse_query
from search.terms import Terms, holds
from storage.postgres.pool import open_pool


@pytest.fixture(scope="module")
def engine(databases: Any) -> Iterator[PostgresEngine]:
    url = databases.make("index")
    with open_pool(url, min=1, max=2) as pool, pool.connection() as conn:
        for number, did in DIDS.items():
            conn.execute("INSERT INTO actor (id, did) VALUES (%s, %s)", (number, did))
        engine = PostgresEngine(pool)
        engine.put(
            conn,
            [
                document(1, "a green kettle"),
                document(2, "a copper whistle"),
                document(3, "에스프레소 기계"),
                document(4, "エスプレッソマシン"),
                document(5, "kettle kettle", likes=0),
            ],
        )
        conn.commit()
        yield engine
    databases.drop(url)


def found(engine: PostgresEngine, text: str, sort: Sort = "top") -> list[int]:
    query = parse_query(text, resolve_handle=lambda _: None, base=Query(sort=sort))
    hits = engine.search_records(query, collections=[POST], limit=9).hits
    return [hit.address.rkey for hit in hits]


def test_one_of_two_words_is_enough_only_if_nothing_holds_both(
    engine: PostgresEngine,
) -> None:
    assert 2 in found(engine, "copper kettle")
    assert found(engine, "green kettle") == [1]
    assert found(engine, "copper kettle", "latest") == []


def test_one_wrong_character_of_a_long_run_is_found(engine: PostgresEngine) -> None:
    assert found(engine, "에스프래소") == [3]
    assert found(engine, "エスプレッソマジン") == [4]
    assert found(engine, "エスプレツソマシン", "latest") == [4]
    assert found(engine, "기게") == []


def test_few_matches_are_ranked_by_words(engine: PostgresEngine) -> None:
    assert found(engine, "kettle") == [5, 1]


@pytest.mark.parametrize("number", range(2, 7))
def test_all_but_one_holds_with_one_part_missing_at_most(number: int) -> None:
    parts = [Words((f"w{n}",)) for n in range(number)]
    node = _all_but_one(parts)
    for chosen in product((True, False), repeat=number):
        held = [p.tokens[0] for p, one in zip(parts, chosen, strict=True) if one]
        terms = Terms({"text": held}, frozenset())
        assert holds(node, terms) == (len(held) >= number - 1), held
