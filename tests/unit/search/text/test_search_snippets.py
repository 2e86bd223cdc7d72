"""Highlights by bytes and by characters, and the part of a text that is shown."""

from __future__ import annotations

import pytest

from search.text.snippets import byte_spans, find_spans, highlight, snippet
from search.text.tokens import Clause, phrase, query_tokens


@pytest.mark.parametrize(
    ("text", "query", "parts"),
    [
        ("Hello world, hello!", "hello", ["Hello", "hello"]),
        ("Un café très bon", "cafe", ["café"]),
        ("日本語の天気です", "天気", ["天気"]),
        ("猫と犬と黒猫", "猫", ["猫", "猫"]),
        ("straße STRASSE ﬁne", "strasse fine", ["straße", "STRASSE", "ﬁne"]),
        ("getUserName", "user", ["getUserName"]),
        ("alice's wi-fi", "alice wifi", ["alice's", "wi-fi"]),
        ("👩🏽‍🚀 to 🇩🇪🇫🇷 1️⃣", "👩‍🚀 🇫🇷 1️⃣", ["👩🏽‍🚀", "🇫🇷", "1️⃣"]),
        ("วันนี้อากาศดีมาก", "อากาศ", ["อากาศ"]),
        ("मुझे दिल्ली पसंद", "दिल्ली", ["दिल्ली"]),
        ("cafe\u0301 sho\u00adp", "café shop", ["cafe\u0301", "sho\u00adp"]),
        ("안녕하세요", "하세", ["하세"]),
        ("ｶﾞｷﾞ", "ガギ", ["ｶﾞｷﾞ"]),
        ("Ålborg", "aalborg", ["Ålborg"]),
        ("no match", "other", []),
        ("", "x", []),
    ],
)
def test_highlights(text: str, query: str, parts: list[str]) -> None:
    clauses = query_tokens(query)
    assert [text[a:b] for a, b in find_spans(text, clauses)] == parts
    encoded = text.encode()
    assert [encoded[a:b].decode() for a, b in highlight(text, clauses)] == parts


def test_words_of_a_phrase_are_highlighted_together_only() -> None:
    blue_sky = phrase("blue sky")
    assert blue_sky is not None
    text = "sky blue, blue sky, blue"
    assert [text[a:b] for a, b in find_spans(text, [blue_sky])] == ["blue sky"]


def test_prefix_highlights_longer_words() -> None:
    text = "search searching sea"
    spans = find_spans(text, [Clause(("search",), prefix=True)])
    assert [text[a:b] for a, b in spans] == ["search", "searching"]


def test_lone_surrogates_have_byte_offsets() -> None:
    assert highlight("\ud800x", query_tokens("x")) == [(3, 4)]
    assert byte_spans("é x", [(2, 3)]) == [(3, 4)]


def test_snippet_shows_the_part_with_most_matches() -> None:
    text = (
        "needle " + "lorem ipsum " * 40 + "a needle and a needle " + "dolor sit " * 40
    )
    part = snippet(text, find_spans(text, query_tokens("needle")), 100)
    assert len(part.text) <= 100
    assert [part.text[a:b] for a, b in part.spans] == ["needle", "needle"]
    assert text[part.start :].startswith(part.text)
    assert not part.text[0].isspace()


@pytest.mark.parametrize("text", ["", "short", "x" * 5_000, "猫" * 5_000, "a " * 5_000])
@pytest.mark.parametrize("length", [1, 10, 200])
def test_snippet_of_any_text_is_short(text: str, length: int) -> None:
    part = snippet(text, find_spans(text, query_tokens(text[-50:])), length)
    assert len(part.text) <= max(length, 1)
    assert all(0 <= a < b <= len(part.text) for a, b in part.spans)
