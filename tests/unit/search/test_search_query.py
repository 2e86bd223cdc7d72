from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.query import Clause, InvalidQueryError, PostQuery, parse_query
from search.tokens import tokenize

ALICE = "did:plc:" + "a" * 24
BOB = "did:plc:" + "b" * 24
HANDLES = {"alice.test": ALICE, "bob.test": BOB}


def parse(text: str, **options: object) -> PostQuery:
    return parse_query(text, resolve_handle=HANDLES.get, **options)  # type: ignore[arg-type]


def test_words_are_separate_and_phrases_stay_together() -> None:
    query = parse('Hello "blue sky" wörld')
    assert query.required == (
        Clause(("hello",)),
        Clause(("blue", "sky")),
        Clause(("world",)),
    )


def test_minus_excludes_words_phrases_tags_and_authors() -> None:
    query = parse('cats -dogs -"wet cats" -#spam -from:bob.test')
    assert query.required == (Clause(("cats",)),)
    assert query.excluded == (Clause(("dogs",)), Clause(("wet", "cats")))
    assert query.excluded_tags == ("spam",)
    assert query.excluded_authors == (BOB,)


def test_operators_become_filters() -> None:
    query = parse(
        "from:alice.test to:@bob.test domain:Example.com lang:pt-BR #Tag "
        "since:2026-01-02 until:2026-02-03T04:05:06Z has:images is:reply"
    )
    assert query == PostQuery(
        authors=(ALICE,),
        mentions=(BOB,),
        domains=("example.com",),
        langs=("pt",),
        tags=("tag",),
        features=("images", "reply"),
        since=datetime(2026, 1, 2, tzinfo=UTC),
        until=datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
    )


def test_me_is_the_viewer_and_needs_one() -> None:
    assert parse("from:me", viewer=ALICE).authors == (ALICE,)
    with pytest.raises(InvalidQueryError, match="signed-in"):
        parse("from:me")


def test_unknown_handle_matches_nothing() -> None:
    query = parse("from:nobody.test cats")
    assert query.authors
    assert query.authors[0] not in HANDLES.values()


def test_times_and_urls_in_text_are_words() -> None:
    assert parse("at 12:30").required == (
        Clause(("at",)),
        Clause(("12",)),
        Clause(("30",)),
    )
    assert parse("https://example.com/x").required


def test_cjk_query_is_a_phrase_of_bigrams() -> None:
    assert parse("日本語").required == (Clause(("日本", "本語")),)


@pytest.mark.parametrize(
    "text",
    [
        "since:yesterday",
        "since:0000-01-01",
        "has:everything",
        "from:not/a/handle",
        "x" * 1025,
        " ".join("w" * 40),
        "-since:2026-01-01",
    ],
)
def test_malformed_query_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(InvalidQueryError):
        parse(text)


@given(st.text(max_size=200))
def test_any_text_parses_or_is_refused_by_name(text: str) -> None:
    try:
        query = parse(text)
    except InvalidQueryError:
        return
    assert isinstance(query, PostQuery)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, WORLD!", ["hello", "world"]),
        ("très bien ça", ["tres", "bien", "ca"]),
        ("ガギグ", ["ガギ", "ギグ"]),
        ("猫", ["猫"]),
        ("good 🌞 day", ["good", "🌞", "day"]),
        ("don’t don't", ["don't", "don't"]),
        ("snake_case a1", ["snake_case", "a1"]),
        ("Привет мир", ["привет", "мир"]),
        ("안녕하세요", ["안녕하세요"]),
        ("１２３", ["123"]),
        ("_x_ ::", ["x"]),
    ],
)
def test_tokens_of_many_scripts(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text())
def test_tokens_never_hold_a_colon(text: str) -> None:
    assert all(":" not in token and token for token in tokenize(text))
