"""Relevance of search: the measures, the corpus, and the stored figures."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter

import pytest

from bench.relevance.background import generate_posts, make_vocabulary
from bench.relevance.baseline import Baseline
from bench.relevance.corpus import KINDS, LANGUAGES, load_language
from bench.relevance.expected import falls, measure_size, to_figures
from bench.relevance.filling import place_posts
from bench.relevance.known_items import FORMS, make_known_items, misspell
from bench.relevance.measures import ndcg, recall
from search.query.parser import parse_query
from storage.postgres.pool import Pool


def test_ndcg_falls_with_the_place_of_the_best() -> None:
    grades = {"a": 3, "b": 2, "c": 1}
    assert ndcg(["a", "b", "c"], grades, 10) == pytest.approx(1)
    assert ndcg(["x", "a", "b", "c"], grades, 10) < ndcg(["a", "x", "b"], grades, 10)
    assert ndcg(["c", "b", "a"], grades, 10) == pytest.approx(
        (1 + 3 / 1.58496 + 7 / 2) / (7 + 3 / 1.58496 + 1 / 2), abs=1e-4
    )
    assert ndcg([], grades, 10) == 0
    assert ndcg(["x", "x", "a"], grades, 2) == 0


def test_recall_ignores_mentions() -> None:
    grades = {"a": 3, "b": 2, "c": 1}
    assert recall(["a", "c"], grades, 50) == 0.5
    assert recall(["x", "a", "b"], grades, 2) == 0.5
    assert recall([], {"c": 1}, 50) == 1


@pytest.mark.parametrize("code", LANGUAGES)
def test_language_has_enough_posts_and_queries(code: str) -> None:
    language = load_language(code)
    names = {post.name for post in language.posts}
    assert len(names) >= 60
    assert len(language.queries) >= 30
    assert len(language.keys) >= 10
    assert {query.kind for query in language.queries} >= {*KINDS} - {"typo", "form"}
    for query in language.queries:
        assert names >= query.grades.keys(), query
        assert max(query.grades.values()) > 1, query
    keys = {*language.keys.values()}
    assert len(keys) == len(language.keys)


def test_corpus_has_ten_languages_and_three_hundred_queries() -> None:
    assert len(LANGUAGES) >= 10
    assert sum(len(load_language(code).queries) for code in LANGUAGES) >= 300


def test_generated_posts_are_the_same_in_every_run() -> None:
    language = load_language("en")
    assert [*generate_posts(language, 50)] == [*generate_posts(language, 50)]
    assert place_posts(language.posts) == place_posts(language.posts)


@pytest.mark.parametrize("code", ["en", "ja"])
def test_generated_words_have_a_long_tail(code: str) -> None:
    language = load_language(code)
    posts = [*generate_posts(language, 400)]
    counts = Counter(word for post in posts for word in post.words)
    assert len(make_vocabulary(language)) > 4_000
    assert counts.most_common(1)[0][1] > 150
    assert sum(count == 1 for count in counts.values()) > 0.4 * len(counts)


@pytest.mark.parametrize("code", LANGUAGES)
def test_known_items_hold_the_words_of_their_post(code: str) -> None:
    language = load_language(code)
    placed = place_posts([*language.posts, *generate_posts(language, 200)])
    items = make_known_items(language, placed, 5)
    assert Counter(item.form for item in items) == dict.fromkeys(FORMS, 5)
    by_form = {item.form: item for item in items}
    post = by_form["rare"].wanted.post
    assert {*by_form["rare"].text.split()} <= {*post.words}
    right, wrong = by_form["rare"].text.split(), by_form["typo"].text.split()
    assert sum(a != b for a, b in zip(right, wrong, strict=True)) == 1


@pytest.mark.parametrize(
    "word",
    ["harbour", "über", "гавань", "나무", "ガラス", "มะเขือ", "बाढ़", "خبز", "梁檐"],
)
def test_misspell_changes_little(word: str) -> None:
    for seed in range(20):
        wrong = misspell(random.Random(seed), word)
        assert wrong != word
        parts = [len(unicodedata.normalize("NFD", w)) for w in (word, wrong)]
        assert abs(parts[0] - parts[1]) <= 1


def test_baseline_prefers_rare_words_and_obeys_filters(pool: Pool) -> None:
    from bench.relevance.expected import Silence
    from bench.relevance.filling import fill_engine, store_posts
    from search.engines.postgres import PostgresEngine

    language = load_language("en")
    placed = place_posts(language.posts)
    with pool.connection() as conn:
        store_posts(conn, placed)
    documents = fill_engine(pool, PostgresEngine(pool), len(placed), Silence())
    assert len(documents) == len(language.posts)
    baseline = Baseline(documents)
    names = {p.address: p.post.name for p in placed}

    def found(text: str) -> list[str]:
        query = parse_query(text, resolve_handle={p.handle: p.did for p in placed}.get)
        return [names[address] for address in baseline.search(query, 10)]

    assert found("the Falkeborn")[0] == "en.chess.c"
    assert found("#allotment")
    assert {*found("#allotment")} == {
        "en.garden.a",
        "en.garden.d",
    }
    assert found("library from:shellnotes.en.test")[0] == "en.library.d"
    assert "en.chess.e" not in found("chess -politics")
    assert found("kitten has:images")


@pytest.mark.slow
def test_relevance_of_two_languages_does_not_fall(pool: Pool) -> None:
    scores = measure_size(pool, "short")
    assert falls(to_figures(scores), "short") == []


@pytest.mark.long
def test_relevance_of_all_languages_does_not_fall(pool: Pool) -> None:
    scores = measure_size(pool, "whole")
    assert falls(to_figures(scores), "whole") == []
