from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.query.nodes import (
    EVERYTHING,
    FEATURES,
    AllOf,
    AnyOf,
    Filter,
    Kind,
    Node,
    Not,
    Place,
    Query,
    Within,
    Words,
    all_of,
)
from search.query.operators import NOBODY, InvalidQueryError
from search.query.parser import MAX_DEPTH, parse_query
from search.text.tokens import tokenize

ALICE = "did:plc:" + "a" * 24
BOB = "did:plc:" + "b" * 24
HANDLES = {"alice.test": ALICE, "bob.test": BOB}
LIST = f"at://{ALICE}/app.bsky.graph.list/3k"


def parse(text: str, **options: Any) -> Query:
    return parse_query(text, resolve_handle=HANDLES.get, **options)


def where(text: str, **options: Any) -> Node:
    return parse(text, **options).where


def word(*tokens: str) -> Words:
    return Words(tokens)


def by(did: str) -> Filter:
    return Filter(Kind.AUTHOR, did)


CATS, DOGS, BIRDS = word("cats"), word("dogs"), word("birds")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EVERYTHING),
        ("cats", CATS),
        ("Cats  DOGS", AllOf((CATS, DOGS))),
        ('"blue sky" wörld', AllOf((word("blue", "sky"), word("world")))),
        ('"blue sky', word("blue", "sky")),
        ("日本語", word("日本", "本語")),
        ("cats -dogs", AllOf((CATS, Not(DOGS)))),
        ('cats -"wet dogs"', AllOf((CATS, Not(word("wet", "dogs"))))),
        ("cats OR dogs", AnyOf((CATS, DOGS))),
        ("cats | dogs", AnyOf((CATS, DOGS))),
        ("cats or dogs", AllOf((CATS, word("or"), DOGS))),
        ("ORcats", word("orcats")),
        ("OR", EVERYTHING),
        ("OR cats OR", CATS),
        ("cats OR OR dogs", AnyOf((CATS, DOGS))),
        ("birds cats OR dogs", AnyOf((AllOf((BIRDS, CATS)), DOGS))),
        ("birds (cats OR dogs)", AllOf((BIRDS, AnyOf((CATS, DOGS))))),
        ("(cats OR dogs) birds", AllOf((AnyOf((CATS, DOGS)), BIRDS))),
        ("birds -(cats OR dogs)", AllOf((BIRDS, Not(AnyOf((CATS, DOGS)))))),
        ("birds (cats OR dogs", AllOf((BIRDS, AnyOf((CATS, DOGS))))),
        ("((cats))", CATS),
        ("()", EVERYTHING),
        ("cats :) dogs :(", AllOf((CATS, DOGS))),
        ("cats) dogs", AllOf((CATS, DOGS))),
        ('("wet cats")', word("wet", "cats")),
        ("cats cats", CATS),
        ("#Cats", Filter(Kind.TAG, "cats")),
        ("＃cats", Filter(Kind.TAG, "cats")),
        ("-#cats", Not(Filter(Kind.TAG, "cats"))),
        ("#", EVERYTHING),
        ("@alice.test", Filter(Kind.MENTION, ALICE)),
        ("-@alice.test", Not(Filter(Kind.MENTION, ALICE))),
        ("from:alice.test", by(ALICE)),
        ("FROM:@Alice.Test", by(ALICE)),
        ("from: alice.test", by(ALICE)),
        (f"author:{BOB}", by(BOB)),
        ("-from:bob.test", Not(by(BOB))),
        ("from:nobody.test", by(NOBODY)),
        ("from:alice.test from:bob.test", AnyOf((by(ALICE), by(BOB)))),
        ("to:bob.test", Filter(Kind.MENTION, BOB)),
        ("-mentions:bob.test", Not(Filter(Kind.MENTION, BOB))),
        ("domain:Example.com", Filter(Kind.DOMAIN, "example.com")),
        ("-domain:example.com", Not(Filter(Kind.DOMAIN, "example.com"))),
        ("lang:pt-BR", Filter(Kind.LANG, "pt")),
        (
            "lang:ja lang:en",
            AnyOf((Filter(Kind.LANG, "ja"), Filter(Kind.LANG, "en"))),
        ),
        ("-lang:ja", Not(Filter(Kind.LANG, "ja"))),
        ("has:image", Filter(Kind.FEATURE, "images")),
        ("is:reply", Filter(Kind.FEATURE, "reply")),
        ("-is:reply", Not(Filter(Kind.FEATURE, "reply"))),
        ("to: everyone", AllOf((word("to"), word("everyone")))),
        ("(from:alice.test OR cats)", AnyOf((by(ALICE), CATS))),
    ],
)
def test_query_text_becomes_a_tree(text: str, expected: Node) -> None:
    assert where(text) == expected


def test_base_and_text_hold_together() -> None:
    base = Query(where=by(ALICE), sort="top")
    query = parse("cats OR dogs", base=base)
    assert query.sort == "top"
    assert query.where == AllOf((by(ALICE), AnyOf((CATS, DOGS))))


def test_times_and_likes_stand_beside_the_tree() -> None:
    query = parse(
        "since:2026-01-02 until: 2026-02-03T04:05:06Z min_likes:5 MIN_LIKES:3"
    )
    assert query == Query(
        since=datetime(2026, 1, 2, tzinfo=UTC),
        until=datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        min_likes=5,
    )
    assert parse("-since:2026-01-02").until == datetime(2026, 1, 2, tzinfo=UTC)
    narrow = parse("since:2026-01-02 since:2026-01-05 -since:2026-02-01")
    assert narrow.since == datetime(2026, 1, 5, tzinfo=UTC)
    assert narrow.until == datetime(2026, 2, 1, tzinfo=UTC)


def test_places_stay_beside_the_tree() -> None:
    query = parse(f"in:following -in:likes in:list in:{LIST}", viewer=BOB)
    assert query.within == (
        Within(Place.FOLLOWING, BOB),
        Within(Place.LIKES, BOB, negated=True),
        Within(Place.LIST, BOB),
        Within(Place.LIST, LIST),
    )


def test_me_is_the_viewer() -> None:
    assert where("from:me", viewer=ALICE) == by(ALICE)


def test_times_and_urls_in_text_are_words() -> None:
    assert where("at 12:30") == all_of(word("at"), word("12"), word("30"))
    assert word("example", "com") in where("https://example.com/x").items  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("from:me", "me"),
        ("in:following", "in:following"),
        ("from:alice", "'alice'"),
        ("since:yesterday", "'yesterday'"),
        ("since:0000-01-01", "'0000-01-01'"),
        ("since:1066-10-14T99:00:00Z", "'1066-10-14T99:00:00Z'"),
        ("has:cats", "has:cats"),
        ("-is:cats", "is:cats"),
        ("lang:japanese", "lang:japanese"),
        ("lang:12", "lang:12"),
        ("min_likes:many", "min_likes:many"),
        ("-min_likes:3", "-min_likes:3"),
        ("min_likes:99999999999", "min_likes:99999999999"),
        ("in:cats", "in:cats"),
        ('from:""', "from:"),
        ("cats OR since:2026-01-02", "since:2026-01-02"),
        ("(cats since:2026-01-02)", "since:2026-01-02"),
        ("(" * (MAX_DEPTH + 1), "parentheses"),
        ("a " * 33, "32"),
        ("é" * 513, "1024"),
    ],
)
def test_errors_quote_the_part(text: str, quoted: str) -> None:
    with pytest.raises(InvalidQueryError) as caught:
        parse(text)
    assert quoted in str(caught.value)


@pytest.mark.parametrize("feature", FEATURES)
def test_every_feature_has_a_name(feature: str) -> None:
    assert where(f"has:{feature}") == Filter(Kind.FEATURE, feature)


_PIECES = st.sampled_from(
    [
        "cats", "-", "(", ")", '"', "OR", "|", " ", "#", "@", ":", "from:", "has:",
        "since:", "2026-01-02", "lang:", "ja", "in:", "日本", "\x00", "alice.test",
    ]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=30).map("".join)))
def test_any_text_is_a_query_or_an_error(text: str) -> None:
    try:
        query = parse(text)
    except InvalidQueryError as error:
        query = Query() if str(error) else None
    assert isinstance(query, Query)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, WORLD!", ["hello", "world"]),
        ("très bien ça", ["tres", "bien", "ca"]),
        ("ガギグ", ["がぎ", "ぎぐ", "ぐ"]),
        ("猫", ["猫"]),
        ("good 🌞 day", ["good", "🌞", "day"]),
        ("don’t don't", ["dont", "dont"]),
        ("snake_case a1", ["snakecase", "a1", "snake", "case"]),
        ("Привет мир", ["привет", "мир"]),
        ("안녕하세요", ["안녕", "녕하", "하세", "세요", "요"]),
        ("１２３", ["123"]),
        ("_x_ ::", ["x"]),
    ],
)
def test_tokens_of_many_scripts(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text())
def test_tokens_never_hold_a_colon(text: str) -> None:
    assert all(":" not in token and token for token in tokenize(text))


@pytest.mark.parametrize("text", ["cats \ud800", "url:\ud800"])
def test_text_that_no_database_takes_is_refused(text: str) -> None:
    with pytest.raises(InvalidQueryError):
        parse(text)


def test_nul_separates_words() -> None:
    assert where("cats\0dogs") == AllOf((CATS, DOGS))
    assert where("url:a.test\0") == Filter(Kind.URL, "a.test")


def test_quotes_and_colons_of_other_keyboards_are_read() -> None:
    assert where("“blue sky”") == word("blue", "sky")
    assert where("from：alice.test") == by(ALICE)
    assert where("-from： alice.test") == Not(by(ALICE))


def test_times_may_stand_beside_or_in_parentheses() -> None:
    query = parse("since:2026-01-02 (cats OR dogs)")
    assert query.where == AnyOf((CATS, DOGS))
    assert query.since is not None
    with pytest.raises(InvalidQueryError, match="since:2026-01-02"):
        parse("since:2026-01-02 cats OR dogs")
