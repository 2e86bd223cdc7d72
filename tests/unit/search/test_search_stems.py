"""Words with the same stem are found after exact matches, each once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sample_documents import DIDS, POST, document

from search.engines.postgres import PostgresEngine
from search.query.parser import parse_query
from search.text.stems import document_stems, query_stems
from storage.postgres.pool import open_pool


@pytest.fixture(scope="module")
def engine(databases: Any) -> Iterator[PostgresEngine]:
    url = databases.make("index")
    with open_pool(url, min=1, max=2) as pool:
        engine = PostgresEngine(pool)
        with pool.connection() as conn:
            for number, did in DIDS.items():
                conn.execute(
                    "INSERT INTO actor (id, did) VALUES (%s, %s)", (number, did)
                )
            engine.put(
                conn,
                [
                    document(1, "our cities are loud", detected="en"),
                    document(2, "a city by the sea", detected="en"),
                    document(3, "walking through cities", langs=("en",)),
                    document(4, "he walked to the city", detected="en"),
                    document(5, "новые книги о городах", detected="ru"),
                    document(6, "книга о море", detected="ru"),
                    document(7, "walk with me", detected="en"),
                    document(8, "cities without a language"),
                    document(9, "de garden is groen", detected="nl"),
                    document(10, "la gare de Lyon", detected="fr"),
                    document(11, "les gares de Paris", detected="fr"),
                    document(13, "it rains on the hill", detected="en"),
                    document(14, "rain snow", detected="und"),
                    document(12, "rain en Sevilla", detected="es"),
                ],
            )
        yield engine
    databases.drop(url)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cities", [8, 3, 1, 4, 2]),
        ("city", [4, 2, 3, 1]),
        ("walk", [7, 4, 3]),
        ("walks cities", [4, 3]),
        ("cities -sea", [8, 3, 1, 4]),
        ("книгу", [6, 5]),
        ('"the city"', [4]),
        ("walks lang:ru", []),
        # "garden" has the stem of these words, but in Dutch.
        ("gares", [11, 10]),
        ("gare", [10, 11]),
        ("garden", [9]),
        # The stem of "rains" is no other word in Spanish.
        ("rains", [13, 14]),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 50])
def test_stems_are_found_after_words(
    engine: PostgresEngine, text: str, found: list[int], limit: int
) -> None:
    query = parse_query(text, resolve_handle=lambda _: None)
    seen: list[int] = []
    after = None
    while len(seen) < 20:
        page = engine.search_records(
            query, collections=[POST], limit=limit, after=after
        )
        seen += [hit.address.rkey for hit in page.hits]
        if len(page.hits) < limit:
            break
        after = page.hits[-1].keyset
    # A page that is full does not open the next step.
    assert seen == found[: len(seen)]
    assert limit < 50 or seen == found


def test_stems_of_documents_and_queries_meet() -> None:
    assert document_stems(["cities", "by", "3.14"], ["en", "und", "en"]) == {"~en:citi"}
    assert query_stems("city", ["en", "ja", "en"]) == {"en": "citi"}
    assert query_stems("cities")["en"] == "citi"
    assert set(query_stems("run").values()) == {"run"}
    for odd in ("", "3.14", "c++", "日本", "ab", "😂"):
        assert query_stems(odd) == {}
    assert document_stems(["cities"], ["ja", "und", ""]) == set()
