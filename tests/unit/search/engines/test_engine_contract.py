"""One suite for every search engine: what it finds, in which order, page by page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from contract_cases import NODES, ODD_TEXTS, TEXTS
from contract_data import (
    AGED,
    AGES,
    LISTED,
    OTHER,
    PAGED,
    POST,
    POSTS,
    START,
    actor,
    document,
    fill,
)
from engines_under_test import NEEDS, OPENERS

from search.documents import RecordDocument
from search.engines.contract import SearchEngine
from search.query.nodes import EVERYTHING, Filter, Kind, Node, Query, Words
from search.query.operators import InvalidQueryError
from search.query.parser import parse_query
from search.terms import holds, read_terms
from storage.postgres.pool import Pool, open_pool
from storage.records.addresses import Address

MOST_PAGES = 200


@pytest.fixture(scope="module", params=OPENERS)
def opened(
    databases: Any, request: pytest.FixtureRequest
) -> Iterator[tuple[SearchEngine, Pool]]:
    needed = NEEDS.get(request.param)
    if needed is not None and needed not in os.environ:
        pytest.skip(f"needs a server: set {needed}")
    url = databases.make("index")
    with open_pool(url, min=1, max=4) as pool, OPENERS[request.param](pool) as engine:
        with pool.connection() as conn:
            fill(conn, engine)
        tend(engine)
        yield engine, pool
    databases.drop(url)


@pytest.fixture
def engine(opened: tuple[SearchEngine, Pool]) -> SearchEngine:
    return opened[0]


@pytest.fixture
def pool(opened: tuple[SearchEngine, Pool]) -> Pool:
    return opened[1]


def tend(engine: SearchEngine) -> None:
    """Let an engine with upkeep do all of it."""
    maintain = getattr(engine, "maintain", None)
    while maintain is not None and maintain():
        pass


def put(engine: SearchEngine, pool: Pool, *documents: Any) -> None:
    with pool.connection() as conn:
        engine.put(conn, documents)


def delete(
    engine: SearchEngine, pool: Pool, *addresses: Address, actors: Any = ()
) -> None:
    with pool.connection() as conn:
        engine.delete(conn, addresses, actors)


def pages(
    engine: SearchEngine, query: Query, collections: list[int], limit: int
) -> list[Address]:
    """Return the records of all pages."""
    found: list[Address] = []
    after = None
    for _ in range(MOST_PAGES):
        page = engine.search_records(
            query, collections=collections, limit=limit, after=after
        )
        assert len(page.hits) <= limit
        found += [hit.address for hit in page.hits]
        if len(page.hits) < limit:
            assert len(set(found)) == len(found)
            return found
        after = page.hits[-1].keyset
    raise AssertionError("the pages do not end")


KNOWN: dict[Address, RecordDocument] = {d.address: d for d in POSTS}


def exact(engine: SearchEngine, query: Query, limit: int = 50) -> list[int]:
    """Return the exact matches; near ones may only follow them."""
    found = pages(engine, query, [POST], limit)
    matches = [holds(query.where, read_terms(KNOWN[a])) for a in found if a in KNOWN]
    first = matches.index(False) if False in matches else len(matches)
    assert not any(matches[first:]), "a near match before an exact one"
    return [address.rkey for address in found[:first]]


def parsed(text: str, **options: Any) -> Query:
    return parse_query(text, resolve_handle=lambda _: None, base=Query(**options))


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_engine_finds_text(
    engine: SearchEngine, text: str, expected: list[int]
) -> None:
    query = parsed(text)
    if query.is_empty:
        return
    if query.min_likes:
        found = pages(engine, query, [POST], 50)
        assert [address.rkey for address in found] == expected
    else:
        assert exact(engine, query) == expected


@pytest.mark.parametrize("name", NODES)
def test_engine_finds_trees(engine: SearchEngine, name: str) -> None:
    node, expected = NODES[name]
    assert exact(engine, Query(node)) == expected


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("text", ["brown", "fox OR bear OR gamma", '"brown fox brown"'])
def test_small_pages_hold_what_large_ones_do(
    engine: SearchEngine, text: str, limit: int
) -> None:
    query = parsed(text)
    assert exact(engine, query, limit) == exact(engine, query, 50)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_breaks_nothing(engine: SearchEngine, text: str) -> None:
    try:
        query = parsed(text)
    except InvalidQueryError:
        return
    engine.search_records(query, collections=[POST], limit=3)
    engine.search_actors(text, limit=3)
    engine.typeahead(text, limit=3)


@pytest.mark.parametrize("sort", ["latest", "top"])
@pytest.mark.parametrize("limit", [1, 4, 25, 30])
def test_pages_neither_skip_nor_repeat(
    engine: SearchEngine, sort: Any, limit: int
) -> None:
    found = pages(engine, parsed("page", sort=sort), [POST], limit)
    assert sorted(a.rkey for a in found) == list(range(100, 125))
    if sort == "latest":
        assert [a.rkey for a in found] == list(range(124, 99, -1))


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
def test_pages_hold_equal_times_of_any_year(engine: SearchEngine, limit: int) -> None:
    found = pages(engine, parsed("longago"), [AGES], limit)
    assert sorted(found) == sorted(d.address for d in AGED)
    times = {d.address: d.sort_at for d in AGED}
    assert [times[a] for a in found] == sorted(times.values(), reverse=True)


def test_without_words_everything_of_a_collection_is_listed(
    engine: SearchEngine,
) -> None:
    found = pages(engine, Query(EVERYTHING), [AGES], 5)
    assert sorted(found) == sorted(d.address for d in AGED)


def test_other_collections_are_not_searched(engine: SearchEngine) -> None:
    assert [a.rkey for a in pages(engine, parsed("brown"), [OTHER], 5)] == [7]
    assert len(pages(engine, parsed("brown"), [POST, OTHER], 50)) == 5
    assert pages(engine, parsed("brown"), [12_345], 5) == []
    assert pages(engine, parsed("brown"), [], 5) == []


def test_top_puts_liked_posts_first(engine: SearchEngine) -> None:
    assert sorted(exact(engine, parsed("brown", sort="top"))) == [1, 2, 8, 9]
    # Texts and ages are alike here, so that the engines' ranks differ by likes alone.
    likes = {d.address: d.likes for d in PAGED}
    found = pages(engine, parsed("page", sort="top"), [POST], 4)
    assert [likes[address] for address in found[:5]] == [4] * 5


def test_later_posts_do_not_shift_pages(engine: SearchEngine, pool: Pool) -> None:
    first = [document(n, "shifting", collection=LISTED) for n in range(200, 206)]
    put(engine, pool, *first)
    query = parsed("shifting")
    page = engine.search_records(query, collections=[LISTED], limit=3)
    put(engine, pool, document(300, "shifting", collection=LISTED))
    rest = engine.search_records(
        query, collections=[LISTED], limit=9, after=page.hits[-1].keyset
    )
    found = [hit.address.rkey for hit in (*page.hits, *rest.hits)]
    assert found == [205, 204, 203, 202, 201, 200]


def test_an_update_replaces_a_document(engine: SearchEngine, pool: Pool) -> None:
    put(engine, pool, document(50, "ephemeral", tags=("before",)))
    put(engine, pool, document(50, "rewritten", tags=("after",)))
    assert pages(engine, parsed("ephemeral"), [POST], 5) == []
    assert pages(engine, parsed("#before"), [POST], 5) == []
    address = Address(1, POST, 50)
    assert pages(engine, parsed("rewritten #after"), [POST], 5) == [address]
    delete(engine, pool, address, Address(1, POST, 51))
    assert pages(engine, parsed("rewritten"), [POST], 5) == []


@pytest.mark.parametrize("years", [-3, 0, 1, 200])
def test_an_update_may_move_a_document_in_time(
    engine: SearchEngine, pool: Pool, years: int
) -> None:
    put(engine, pool, document(52, "wandering"))
    moved = START.replace(year=START.year + years)
    put(engine, pool, document(52, "wandering", sort_at=moved))
    assert pages(engine, parsed("wandering"), [POST], 5) == [Address(1, POST, 52)]
    delete(engine, pool, Address(1, POST, 52))
    assert pages(engine, parsed("wandering"), [POST], 5) == []


def test_deletes_of_unknown_records_are_no_error(
    engine: SearchEngine, pool: Pool
) -> None:
    delete(engine, pool, Address(8, POST, -77), Address(1, 1, 2**62), actors=[12_345])


def test_an_account_leaves_with_all_its_records(
    engine: SearchEngine, pool: Pool
) -> None:
    old = START.replace(year=1066)
    put(
        engine,
        pool,
        document(60, "leaving", actor=7),
        document(-61, "leaving", actor=7, sort_at=old),
        document(62, "leaving", actor=7, collection=LISTED),
        document(63, "leaving", actor=8),
        actor(7, "leaving.test", "Leaving", "", 0),
    )
    assert len(pages(engine, parsed("leaving"), [POST, LISTED], 2)) == 4
    delete(engine, pool, actors=[7])
    assert [a.rkey for a in pages(engine, parsed("leaving"), [POST, LISTED], 2)] == [63]
    assert engine.search_actors("leaving", limit=5) == []
    delete(engine, pool, Address(8, POST, 63))


@pytest.mark.parametrize(
    ("name", "changed", "sought"),
    [
        ("300 kB of text", {"text": "needle " + "hay stack " * 30_000}, "needle stack"),
        ("one long word", {"text": "needle " + "x" * 300_000}, "needle"),
        ("no text", {"text": "", "tags": ("needle",)}, "#needle"),
        (
            "10,000 tags",
            {"text": "needle", "tags": tuple(f"tag{n}" for n in range(10_000))},
            "needle #tag9",
        ),
        ("long url", {"urls": ("https://a.test/" + "u" * 2_000,)}, "needle"),
        ("marks alone", {"text": "needle \u0301\u0301 \u093f"}, "needle"),
        ("unassigned", {"text": "needle \U000e0001 \uffff \ue000"}, "needle"),
        ("ends in a backslash", {"text": 'needle \\" \\'}, "needle"),
    ],
)
def test_odd_documents_are_found(
    engine: SearchEngine, pool: Pool, name: str, changed: dict[str, Any], sought: str
) -> None:
    put(engine, pool, document(70, **{"text": "needle", **changed}))
    assert pages(engine, parsed(sought), [POST], 5) == [Address(1, POST, 70)], name
    delete(engine, pool, Address(1, POST, 70))
    assert pages(engine, parsed(sought), [POST], 5) == []


@pytest.mark.parametrize(
    "node",
    [Filter(Kind.TAG, ""), Filter(Kind.LANG, "\x01"), Words(("\x01",))],
)
def test_empty_values_break_nothing(engine: SearchEngine, node: Node) -> None:
    engine.search_records(Query(node), collections=[POST], limit=2)


def names(engine: SearchEngine, text: str, **options: Any) -> list[int]:
    return [hit.actor for hit in engine.search_actors(text, limit=10, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@alice.test", [1]),
        ("ALICE.TEST", [1]),
        ("alicia", [3]),
        ("Alícia", [3]),
        ("rabbits", [6, 1]),
        ("zoe", [6]),
        ("alice liddell", [1]),
        ("liddell ali", [1]),
        ("日本", [4]),
        ("🌞", [6]),
        ("", []),
        ("@", []),
        ("qqqqqq", []),
    ],
)
def test_accounts_are_found(
    engine: SearchEngine, text: str, expected: list[int]
) -> None:
    assert names(engine, text)[: len(expected)] == expected
    assert expected or names(engine, text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ali", [3, 5, 4, 1]), ("alic", [3, 1]), ("bob", [2]), ("rabb", []), ("z", [6])],
)
def test_typeahead_searches_handles_and_names_only(
    engine: SearchEngine, text: str, expected: list[int]
) -> None:
    assert [hit.actor for hit in engine.typeahead(text, limit=10)] == expected


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("follows", [(), (1, 4), (3, 5, 77)])
def test_accounts_page_to_the_end(
    engine: SearchEngine, limit: int, follows: tuple[int, ...]
) -> None:
    found: list[int] = []
    after = None
    for _ in range(10):
        hits = engine.typeahead("ali", limit=limit, after=after, follows=follows)
        found += [hit.actor for hit in hits]
        if len(hits) < limit:
            break
        after = hits[-1].keyset
    everyone = [3, 5, 4, 1]
    assert found == [
        *(n for n in everyone if n in follows),
        *(n for n in everyone if n not in follows),
    ]


def test_the_account_named_exactly_comes_before_followed_ones(
    engine: SearchEngine,
) -> None:
    assert names(engine, "alice.test", follows=[2, 3])[0] == 1


def test_a_changed_account_is_found_by_its_new_name(
    engine: SearchEngine, pool: Pool
) -> None:
    put(engine, pool, actor(8, "before.test", "Before", "", 0))
    put(engine, pool, actor(8, "behind.test", "Behind", "", 0))
    assert names(engine, "before") == []
    assert names(engine, "behind.test") == [8]
    delete(engine, pool, actors=[8])
    assert names(engine, "behind") == []


def test_stats_name_the_engine(engine: SearchEngine) -> None:
    stats = engine.stats()
    assert stats.healthy
    assert stats.name in ("postgres", "meilisearch", "opensearch")
