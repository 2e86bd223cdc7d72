from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sample_documents import DIDS, POST, START, document

from search.documents import RecordDocument
from search.engines.postgres import PostgresEngine
from search.matches.matcher import Matcher, is_listed, rarest_terms
from search.query.nodes import (
    NOTHING,
    AllOf,
    AnyOf,
    Filter,
    Kind,
    Node,
    Not,
    Query,
    Words,
    any_of,
)
from search.query.parser import parse_query
from search.terms import holds, read_terms
from storage.collections import FEED_GENERATOR, FEED_POST
from storage.postgres.pool import Pool
from storage.records.addresses import Address

POSTS = (FEED_POST,)
TOKENS = ("cat", "cats", "dog", "catalog", "日本", "本語", "👍")
FILTERS = [
    Filter(Kind.AUTHOR, DIDS[1]),
    Filter(Kind.AUTHOR, DIDS[2]),
    Filter(Kind.TAG, "birds"),
    Filter(Kind.LANG, "en"),
    Filter(Kind.FEATURE, "images"),
    Filter(Kind.DOMAIN, "example.com"),
    Filter(Kind.RECORD, f"1/{document(3, '').address.collection}/3"),
]
WORDS = st.builds(
    Words,
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
NODES: st.SearchStrategy[Node] = st.recursive(
    WORDS | st.sampled_from(FILTERS),
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, max_size=3).map(lambda items: AllOf(tuple(items)))
        | st.lists(inner, max_size=3).map(lambda items: AnyOf(tuple(items)))
    ),
    max_leaves=8,
)
TEXTS = st.lists(st.sampled_from((*TOKENS, "日本語")), max_size=6).map(" ".join)


@st.composite
def documents(draw: Any) -> RecordDocument:
    return document(
        draw(st.integers(1, 5)),
        draw(TEXTS),
        actor=draw(st.integers(1, 3)),
        title=draw(TEXTS),
        alt=draw(TEXTS),
        tags=draw(st.sampled_from([(), ("Birds",)])),
        langs=draw(st.sampled_from([(), ("en-GB",), ("ja",)])),
        features=draw(st.sampled_from([(), ("images",)])),
        domains=draw(st.sampled_from([(), ("www.example.com",)])),
    )


@given(st.lists(NODES, max_size=12), st.lists(documents(), max_size=8))
def test_matches_are_those_of_the_tree(
    nodes: list[Node], found: list[RecordDocument]
) -> None:
    matcher = Matcher()
    for number, node in enumerate(nodes):
        matcher.put(number, Query(node), POSTS)
    for each in found:
        terms = read_terms(each)
        expected = [n for n, node in enumerate(nodes) if holds(node, terms)]
        assert matcher.match(each) == expected
        # Queries listed anew, under terms that the documents made rarer.
        matcher._begin_sort()
        assert matcher.match(each) == expected
        assert not matcher._unsorted
        assert matcher.match(each) == expected
    for number in range(len(nodes)):
        matcher.remove(number)
    assert not len(matcher)
    assert not matcher._by_term
    assert not matcher._always
    assert not +matcher._start_lengths


def parse(text: str) -> Query:
    return parse_query(text, resolve_handle={}.get)


def match(query: Query, found: RecordDocument) -> bool:
    matcher = Matcher()
    matcher.put(7, query, POSTS)
    return matcher.match(found) == [7]


def test_times_likes_and_collections_decide_too() -> None:
    post = document(1, "cats", likes=3)
    at = post.sort_at
    assert match(Query(parse("cats").where, since=at), post)
    assert not match(Query(parse("cats").where, until=at), post)
    assert match(Query(parse("cats").where, until=at + timedelta(seconds=1)), post)
    assert match(Query(parse("cats").where, min_likes=3), post)
    assert not match(Query(parse("cats").where, min_likes=4), post)
    feed = document(1, "cats", collection=4)
    assert match(parse("cats"), post)
    matcher = Matcher()
    matcher.put(1, parse("cats"), (FEED_GENERATOR,))
    assert matcher.match(post) == []
    assert feed.sort_at > START


def test_query_is_listed_under_its_rarest_term() -> None:
    counts = {"the": 90, "wombat": 2, "dog": 5}

    def terms(text: str) -> Any:
        return rarest_terms(parse(text).where, lambda t: counts.get(t, 0))  # type: ignore[arg-type]

    assert terms("the wombat") == ("wombat",)
    assert terms("the (wombat OR dog)") == ("wombat", "dog")
    assert terms('"the dog"') == ("dog",)
    assert terms("the -wombat") == ("the",)
    assert terms("lang:en the") == ("the",)
    assert rarest_terms(NOTHING, lambda _: 0) == ()


def test_query_without_a_required_term_is_not_listed() -> None:
    for text in ("-cats", "lang:en", "has:images -cats", "cats OR -dogs"):
        assert not is_listed(parse(text)), text
    for text in ("cats", "#cats", "(cats OR dogs) lang:en", f"from:{DIDS[1]}"):
        assert is_listed(parse(text)), text


def test_document_checks_few_of_many_queries() -> None:
    matcher = Matcher()
    for n in range(2_000):
        matcher.put(n, parse(f"the word{n}"), POSTS)
    for n in range(600):
        found = document(n + 1, f"the word{n} of the day")
        assert matcher.match(found) == [n]
    # After the first documents no query is listed under "the".
    assert "the" not in matcher._by_term
    assert any_of() == NOTHING


SAMPLE = [
    document(1, "The quick brown fox", langs=("en-US",), tags=("Fox",)),
    document(2, "A slow brown bear sleeps", langs=("en",), actor=2),
    document(3, "Un café très bon", langs=("fr",), actor=2),
    document(4, "日本語の天気", langs=("ja",), actor=3),
    document(
        5,
        "see https://www.example.com/a/",
        domains=("www.example.com",),
        urls=("https://www.example.com/a/",),
        features=("link",),
        mentions=(DIDS[3],),
    ),
    document(6, "it's 🌞 o'clock, a sunny fox-hunt", alt="a brown bear"),
    document(7, "ภาษาไทย สวัสดีครับ", title="brown fox"),
    document(8, "안녕하세요 세계", tags=("세계",)),
]
QUERIES = [
    "brown", "brown -bear", '"brown fox"', '"brown bear"', "fox OR bear", "#fox",
    "-lang:en brown", "cafe", "天気", "日本", "語の", "สวัสดี", "세계", "#세계", "🌞",
    "domain:example.com", "url:https://www.example.com/a", "has:link", "it's",
    f"mentions:{DIDS[3]}", f"from:{DIDS[2]}", f"-from:{DIDS[1]} -is:reply",
    "brown (fox OR sleeps) -slow", "fox-hunt", "-(fox OR bear) -brown", "sunny fox",
    "since:2026-01-01T00:03:00Z brown", "until:2026-01-01T00:03:00Z brown",
]  # fmt: skip


def test_matches_are_those_of_the_postgres_engine(pool: Pool) -> None:
    engine = PostgresEngine(pool)
    with pool.connection() as conn:
        for number, did in DIDS.items():
            conn.execute("INSERT INTO actor (id, did) VALUES (%s, %s)", (number, did))
        engine.put(conn, SAMPLE)
    matcher = Matcher()
    queries = [parse(text) for text in QUERIES]
    for number, query in enumerate(queries):
        matcher.put(number, query, POSTS)
    found: dict[int, set[Address]] = {number: set() for number in range(len(queries))}
    for each in SAMPLE:
        for number in matcher.match(each):
            found[number].add(each.address)
    for number, query in enumerate(queries):
        page = engine.search_records(query, collections=[POST], limit=50)
        # Records that match less may follow those that match every word.
        exact = {hit.address for hit in page.hits[: len(found[number])]}
        assert exact == found[number], QUERIES[number]
        assert found[number], QUERIES[number]


def test_sort_lists_a_bounded_number_of_queries_at_once() -> None:
    matcher = Matcher()
    for number in range(120):
        matcher.put(number, parse(f"cats w{number}"), POSTS)
    post = document(1, "cats w7 w119")
    left = set()
    for _ in range(510):
        assert matcher.match(post) == [7, 119]
        matcher.remove(100)
        left.add(len(matcher._unsorted))
    assert left == {0, 69, 19}
