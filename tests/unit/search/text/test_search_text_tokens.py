"""Tokens, stems and tags: their form, odd inputs and bounded work."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from search.query.nodes import Words
from search.terms import Terms, holds
from search.text.folding import fold
from search.text.languages import detect_language
from search.text.snippets import find_spans, highlight
from search.text.stems import STEMMED_LANGUAGES, stem_tokens
from search.text.tags import normalize_tag, tags_in
from search.text.tokens import Clause, phrase, query_tokens, tokenize
from search.text.words import MAX_TOKEN_CHARS, ascii_words, pieces_of, split_piece

ODD = [
    "a",
    "A",
    "\0",
    "猫",
    "か\u3099",
    "한",
    "ก้",
    "क्ष",
    "\u0301",
    "\u0323\u0301",
    "\u200d",
    "\ufe0f",
    "😀",
    "👩\u200d",
    "👍🏽",
    "🇩🇪",
    "🏴",
    "\U000e0067",
    "1️⃣",
    "\ud800",
    "\udfff",
    "𠮷",
    "\ufdfa",
    "İ",
    "ß",
    "å",
    "aA",
    "_",
    "'",
    "-",
    ".",
    ",",
    "1,000",
    "1.2",
    "#",
    "$a",
    "c++",
    "c#",
    "gaard",
    " ",
    "\n",
]
texts = st.one_of(
    st.text(alphabet=st.characters(), max_size=60),
    st.lists(st.sampled_from(ODD), max_size=25).map("".join),
)


@settings(deadline=None, max_examples=60)
@given(texts)
@example("Åﷺ")
def test_any_text_has_tokens_without_spaces_and_colons(text: str) -> None:
    for token in tokenize(text):
        assert 0 < len(token) <= MAX_TOKEN_CHARS
        assert not any(
            c.isspace() or c in ":\0" or 0xD800 <= ord(c) < 0xE000 for c in token
        )


@settings(deadline=None, max_examples=60)
@given(texts)
def test_any_text_is_found_by_itself(text: str) -> None:
    terms = Terms({"text": tokenize(text)}, frozenset())
    for clause in query_tokens(text):
        assert holds(Words(clause.tokens, clause.prefix), terms)
    whole = phrase(text)
    assert whole is None or holds(Words(whole.tokens, whole.prefix), terms)


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet=st.sampled_from("aB1 .,'_-$+#c@/"), max_size=40))
def test_ascii_words_are_the_pieces_of_the_text(text: str) -> None:
    folded = fold(text)
    main: list[str] = []
    for match in pieces_of(folded).finditer(folded):
        main += split_piece(match.group(), match.lastgroup).main
    assert ascii_words(folded)[0] == main


@settings(deadline=None, max_examples=60)
@given(texts, texts)
def test_highlights_of_any_text_are_in_order_and_inside(text: str, query: str) -> None:
    clauses = query_tokens(query) + query_tokens(text)
    encoded = text.encode("utf-8", "surrogatepass")
    end = 0
    for start, stop in highlight(text, clauses):
        assert end <= start < stop <= len(encoded)
        encoded[start:stop].decode("utf-8", "surrogatepass")
        end = stop


@pytest.mark.parametrize(
    "unit",
    [
        *ODD,
        "a'",
        "_a",
        "a-",
        "x\u0301\u0323",
        "क\u093f",
        "ก่",
        "(#",
        "#a,",
        "https://a.b/",
        "aaa ",
        "\u0e4d\u0e32",
        "\u17d2ក",
    ],
)
def test_work_is_linear_in_the_length(unit: str) -> None:
    def spent(length: int) -> float:
        text = unit * (length // len(unit))
        start = time.process_time()
        tokenize(text)
        tags_in(text)
        detect_language(text)
        find_spans(text, query_tokens(text[:60]))
        return time.process_time() - start

    assert spent(40_000) < 2 or spent(40_000) < 2
    assert len(tokenize(unit * 10_000, limit=100)) <= 100


def test_limit_holds_for_all_tokens() -> None:
    assert len(tokenize("猫" * 300_000)) == 16_000
    assert len(tokenize("snake_case " * 10, limit=5)) == 5
    assert tokenize("a" * 300_000) == ["a" * MAX_TOKEN_CHARS]


def test_clauses_are_phrases_of_runs_domains_and_hyphens() -> None:
    assert query_tokens("日本語 猫 it's wi-fi example.com") == [
        Clause(("日本", "本語")),
        Clause(("猫",), prefix=True),
        Clause(("its",), variants=("it",)),
        Clause(("wi", "fi"), variants=("wifi",)),
        Clause(("example", "com")),
    ]
    assert phrase("use snake_case now") == Clause(("use", "snakecase", "now"))
    assert phrase("...") is None


def test_ascii_posts_are_not_slower_than_one_search_for_words() -> None:
    import re
    import timeit
    import unicodedata

    text = (
        "Just finished reading a great book about the history of the railways in "
        "northern England and I would recommend it to anybody who likes trains"
    )
    pattern = re.compile(r"(?P<word>[^\W_]+(?:['’_][^\W_]+)*)")

    def before() -> list[str]:
        lower = unicodedata.normalize("NFKC", text).lower()
        return [match.group() for match in pattern.finditer(lower)]

    def best(function: object) -> float:
        return min(
            timeit.repeat(function, number=200, repeat=9, timer=time.process_time)  # type: ignore[arg-type]
        )

    assert tokenize(text) == before()
    assert best(lambda: tokenize(text)) < 1.5 * best(before)


@pytest.mark.parametrize(
    ("lang", "words", "stem"),
    [
        ("en", ["running", "runs"], "run"),
        ("de", ["hauser"], "haus"),
        ("ru", ["книги", "книгу"], "книг"),
        ("es", ["canciones"], "cancion"),
        ("fi", ["taloissa"], "talo"),
        ("hi", ["किताबें"], "किताब"),
    ],
)
def test_stems(lang: str, words: list[str], stem: str) -> None:
    assert stem_tokens(words, lang) == [stem] * len(words)
    assert stem_tokens([stem], lang) == [None]


def test_tokens_without_a_stem_have_none() -> None:
    odd = ["日本", "3.14", "c++", "😂", "ab", ""]
    for lang in [*STEMMED_LANGUAGES, "ja", "und", ""]:
        assert stem_tokens(odd, lang) == [None] * len(odd)


@pytest.mark.parametrize(
    ("tag", "normal"),
    [
        ("#Cats", "cats"),
        ("＃Cats,", "cats"),
        ("cats\u200b", "cats"),
        ("cafe\u0301", "café"),
        ("ＡＢＣ", "abc"),
        ("ｶﾌｪ", "カフェ"),
        ("İstanbul", "istanbul"),
        ("ISTANBUL", "istanbul"),
        ("Straße", "strasse"),
        ("❤️", "❤"),
        ("##", ""),
        ("", ""),
        ("x" * 300, "x" * 64),
    ],
)
def test_tags_have_one_form(tag: str, normal: str) -> None:
    assert normalize_tag(tag) == normal
    assert normalize_tag(normal) == normal


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("a #b c", ["b"]),
        ("#Cats, #dogs! (#birds)", ["Cats", "dogs", "birds"]),
        ("#a#b", ["a"]),
        ("no#tag #1 # #! 1️⃣ #️⃣", []),
        ("＃日本語 「#猫」", ["日本語", "猫"]),
        ("#twice #twice", ["twice"]),
        ("#C# and #C++", ["C", "C++"]),
        ("https://example.com/#part", []),
    ],
)
def test_tags_typed_in_a_text(text: str, tags: list[str]) -> None:
    assert tags_in(text) == tags


def test_typed_tags_are_bounded() -> None:
    assert len(tags_in(" ".join(f"#tag{i}" for i in range(10_000)))) == 64
    assert tags_in("#" + "x" * 100_000) == ["x" * 640]
