from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sample_documents import DIDS, POST, document

from search.documents import ActorDocument
from search.engines.postgres import PostgresEngine
from search.engines.spelling import correct, edit_distance, refresh_words
from search.query.nodes import Query
from search.query.parser import parse_query
from storage.postgres.pool import Conn, open_pool
from storage.records.addresses import Address


@pytest.fixture(scope="module")
def engine(databases: Any) -> Iterator[PostgresEngine]:
    url = databases.make("index")
    with open_pool(url, min=1, max=2) as pool:
        engine = PostgresEngine(pool)
        with pool.connection() as conn:
            _fill(conn, engine)
        yield engine
    databases.drop(url)


def _fill(conn: Conn, engine: PostgresEngine) -> None:
    for number, did in DIDS.items():
        conn.execute("INSERT INTO actor (id, did) VALUES (%s, %s)", (number, did))
    conn.execute(
        "INSERT INTO post_stats (actor, rkey, likes) VALUES (1, 2, 9), (1, 1, 3)"
    )
    engine.put(
        conn,
        [
            document(1, "The quick brown fox", langs=("en-US",), tags=("Fox",)),
            document(2, "A slow brown bear sleeps", langs=("en",)),
            document(3, "Un café très bon", langs=("fr",), actor=2),
            document(4, "日本語の天気", langs=("ja",), actor=2),
            document(
                5,
                "see https://www.example.com/a/",
                domains=("www.example.com",),
                urls=("https://www.example.com/a/",),
                features=("link",),
                mentions=(DIDS[3],),
                actor=2,
            ),
            document(6, "it's 🌞 o'clock \\ 'quoted'"),
            document(7, "brown things elsewhere", collection=99),
            *(document(100 + i, f"page number{i % 2}") for i in range(25)),
            *(
                document(year + i, "longago", collection=98 if i else 97, sort_at=at)
                for year in (1066, 1683, 1969, 2148)
                for at in [datetime(year, 12, 31, 23, 59, 59, 123_457, UTC)]
                for i in range(3)
            ),
        ],
    )
    engine.put(
        conn,
        [
            actor(1, "alice.test", "Alice Liddell", "likes rabbits"),
            actor(2, "bob.test", "Bob", "friend of alice"),
            actor(3, "alicia.example.com", "Alícia", ""),
        ],
    )
    conn.execute("INSERT INTO actor_stats (actor, followers) VALUES (3, 50), (2, 5)")


def actor(n: int, handle: str, name: str, description: str) -> ActorDocument:
    return ActorDocument(n, DIDS[n], handle, name, description, None, 0, 0, 0)


def found(engine: PostgresEngine, text: str, **options: Any) -> list[int]:
    query = parse_query(text, resolve_handle=lambda _: None, base=Query(**options))
    hits = engine.search_records(query, collections=[POST], limit=50).hits
    return [hit.address.rkey for hit in hits]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("brown", [2, 1]),
        ("brown fox", [1]),
        ('"brown bear"', [2]),
        ('"bear brown"', []),
        ("brown -bear", [1]),
        ("BROWN -#fox", [2]),
        ("#FOX", [1]),
        ("cafe", [3]),
        ("café lang:fr", [3]),
        ("brown lang:fr", []),
        ("lang:en", [2, 1]),
        ("天気", [4]),
        ("日本", [4]),
        ("本日", []),
        ("🌞", [6]),
        ("it's", [6]),
        ("'quoted' \\", [6]),
        ("domain:example.com", [5]),
        ("domain:www.example.com", [5]),
        ("domain:ample.com", []),
        ("url:https://www.example.com/a", [5]),
        ("has:link", [5]),
        (f"mentions:{DIDS[3]}", [5]),
        (f"from:{DIDS[2]} has:link", [5]),
        (f"from:{DIDS[2]} -has:link", [4, 3]),
        ("until:2026-01-01T00:02:00Z", [1]),
        ("brown since:2026-01-01T00:02:00Z", [2]),
        ("from:nobody.test", []),
    ],
)
def test_search_finds(engine: PostgresEngine, text: str, expected: list[int]) -> None:
    assert found(engine, text) == expected


def test_search_top_puts_liked_posts_first(engine: PostgresEngine) -> None:
    assert found(engine, "brown") == [2, 1]
    assert found(engine, "from:" + DIDS[1] + " -page", sort="top")[:2] == [2, 1]


@pytest.mark.parametrize("sort", ["latest", "top"])
def test_pages_neither_skip_nor_repeat(engine: PostgresEngine, sort: Any) -> None:
    query = parse_query("page", resolve_handle=lambda _: None, base=Query(sort=sort))
    seen: list[int] = []
    after = None
    for _ in range(10):
        hits = engine.search_records(
            query, collections=[POST], limit=4, after=after
        ).hits
        seen += [hit.address.rkey for hit in hits]
        if len(hits) < 4:
            break
        after = hits[-1].keyset
    assert sorted(seen) == list(range(100, 125))
    if sort == "latest":
        assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
@pytest.mark.parametrize("sort", ["latest", "top"])
def test_pages_hold_equal_times_of_any_year(
    engine: PostgresEngine, sort: Any, limit: int
) -> None:
    seen = read_all(engine, "longago", limit, sort=sort)
    years = (1066, 1683, 1969) if sort == "top" else (1066, 1683, 1969, 2148)
    assert sorted(seen) == [year + i for year in years for i in range(3)]


def test_pages_of_a_corrected_query(engine: PostgresEngine) -> None:
    with engine.pool.connection() as conn:
        refresh_words(conn)
    assert read_all(engine, "bronw", 1) == [2, 1]


def read_all(
    engine: PostgresEngine, text: str, limit: int, **options: Any
) -> list[int]:
    query = parse_query(text, resolve_handle=lambda _: None, base=Query(**options))
    seen: list[int] = []
    after = None
    for _ in range(30):
        collections = [97, 98] if text == "longago" else [POST]
        hits = engine.search_records(
            query, collections=collections, limit=limit, after=after
        ).hits
        seen += [hit.address.rkey for hit in hits]
        if len(hits) < limit:
            return seen
        after = hits[-1].keyset
    raise AssertionError("the pages do not end")


def test_engine_replaces_and_deletes(engine: PostgresEngine) -> None:
    with engine.pool.connection() as conn:
        engine.put(conn, [document(50, "ephemeral")])
        engine.put(conn, [document(50, "rewritten")])
    assert found(engine, "ephemeral") == []
    assert found(engine, "rewritten") == [50]
    with engine.pool.connection() as conn:
        engine.delete(conn, [Address(1, POST, 50), Address(1, POST, 51)], [])
    assert found(engine, "rewritten") == []


def test_actors_by_handle_name_and_description(engine: PostgresEngine) -> None:
    def search(text: str) -> list[int]:
        return [hit.actor for hit in engine.search_actors(text, limit=10)]

    assert search("alice") == [1, 2]
    assert search("@alice.test") == [1]
    assert search("alicia") == [3]
    assert search("rabbits") == [1]
    assert search("") == []


def test_typeahead_searches_handles_and_names_only(engine: PostgresEngine) -> None:
    assert [hit.actor for hit in engine.typeahead("ali", limit=10)] == [3, 1]
    assert engine.typeahead("rab", limit=10) == []


def test_actor_search_pages(engine: PostgresEngine) -> None:
    first = engine.search_actors("ali", limit=1)
    second = engine.search_actors("ali", limit=5, after=first[-1].keyset)
    assert [hit.actor for hit in [*first, *second]] == [3, 1]


def test_misspelt_word_is_corrected_only_without_a_match(
    engine: PostgresEngine,
) -> None:
    with engine.pool.connection() as conn:
        assert refresh_words(conn) >= 1
        assert correct(conn, "bronw") == "brown"
        assert correct(conn, "brown") is None
        assert correct(conn, "zzzzzz") is None
    assert found(engine, "bronw") == [2, 1]


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("finsih", "finish", 1), ("wuth", "with", 1), ("abcd", "abcd", 0), ("ab", "", 2)],
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b, 2) == distance


def test_no_query_text_breaks_the_sql(engine: PostgresEngine) -> None:
    for text in ("' OR 1=1 --", "\\", "a'b\\'c", "!!!", "(((", "& | !", "\x00", "%s"):
        # The parser refuses a NUL itself.
        if "\x00" not in text:
            found(engine, text)
        engine.search_actors(text, limit=1)
