from __future__ import annotations

from dataclasses import replace

import pytest
from sample_documents import DIDS, document

from search.query.nodes import EVERYTHING, NOTHING, Words
from search.query.parser import parse_query
from search.terms import fields_with, holds, read_terms

ALICE, BOB = DIDS[1], DIDS[2]
ROOT = f"at://{BOB}/app.bsky.feed.post/3k"
TERMS = read_terms(
    document(
        1,
        "The quick brown fox",
        title="Red garden",
        langs=("en-US",),
        tags=("Fox",),
        mentions=(BOB,),
        domains=("www.example.com",),
        urls=("https://www.example.com/a/",),
        features=("link", "reply"),
        reply_root=ROOT,
    )
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("brown", True),
        ("quick fox", True),
        ("cats", False),
        ('"brown fox"', True),
        ('"fox brown"', False),
        ('"garden the"', False),
        ("garden fox", True),
        ("brown -fox", False),
        ("brown -cats", True),
        ("cats OR fox", True),
        ("(cats OR fox) -(dogs OR birds)", True),
        ("#fox", True),
        ("-#fox", False),
        ("lang:en", True),
        ("lang:de", False),
        (f"from:{ALICE}", True),
        (f"from:{BOB}", False),
        (f"to:{BOB}", True),
        ("domain:example.com", True),
        ("domain:ample.com", False),
        ("url:https://www.example.com/a", True),
        ("has:link is:reply", True),
        ("-is:reply", False),
    ],
)
def test_conditions_hold_for_a_document(text: str, found: bool) -> None:
    node = parse_query(text, resolve_handle=lambda _: None).where
    assert holds(node, TERMS) is found


def test_everything_holds_and_nothing_does_not() -> None:
    assert holds(EVERYTHING, TERMS)
    assert not holds(NOTHING, TERMS)


def test_prefix_matches_longer_words_at_the_end_of_a_phrase() -> None:
    assert fields_with(Words(("brown", "fo"), prefix=True), TERMS) == ["text"]
    assert fields_with(Words(("bro", "fox"), prefix=True), TERMS) == []
    assert fields_with(Words(("gard",), prefix=True), TERMS) == ["title"]


def test_terms_are_read_once_for_a_document() -> None:
    post = document(1, "brown cats")
    terms = read_terms(post)
    assert read_terms(post) is terms
    assert read_terms(replace(post, text="birds")).fields == {"text": ["birds"]}
    assert post == document(1, "brown cats")
