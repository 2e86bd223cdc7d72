"""Languages of short posts: 20 in each of 25 languages, and odd inputs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.text.languages import UNKNOWN, detect_language, primary_language

_NOISE = " 😂😂 https://example.com/the-best-news @alice.example.com #monday"


def read_posts() -> list[tuple[str, str]]:
    lines = (Path(__file__).parent / "posts_in_25_languages.txt").read_text("utf-8")
    posts: list[tuple[str, str]] = []
    lang = ""
    for line in lines.splitlines():
        if line.startswith("# "):
            lang = line.removeprefix("# ")
        else:
            posts.append((lang, line))
    return posts


POSTS = read_posts()


def test_posts_are_twenty_in_each_of_25_languages() -> None:
    assert set(Counter(lang for lang, _ in POSTS).values()) == {20}
    assert len(POSTS) == 500


@pytest.mark.parametrize("noise", ["", _NOISE])
@pytest.mark.parametrize("declared", [False, True])
def test_language_is_right_on_96_percent(noise: str, declared: bool) -> None:
    wrong = [
        (lang, found, text)
        for lang, text in POSTS
        if (found := detect_language(text + noise, [lang] if declared else [])) != lang
    ]
    assert len(wrong) <= 0.04 * len(POSTS), wrong


def test_wrong_declaration_rarely_misleads() -> None:
    found = [detect_language(text, ["en"]) == lang for lang, text in POSTS]
    assert sum(found) >= 0.96 * len(POSTS)


@pytest.mark.parametrize(
    "text",
    ["", "lol", "😂😂", "12:30", "https://example.com/some/page", "\0\ud800", "#a"],
)
def test_language_of_too_little_text_is_unknown(text: str) -> None:
    assert detect_language(text) == UNKNOWN
    assert detect_language(text, ["en"]) == UNKNOWN


@pytest.mark.parametrize(
    ("text", "declared", "lang"),
    [
        ("大丈夫", ["ja"], "ja"),
        ("大丈夫", [], "zh"),
        ("Python の勉強を始めました with my friends", [], "ja"),
        ("שלום עולם", ["en"], "he"),
        ("আমি বাংলা বলি", [], "bn"),
        ("मी मराठी बोलतो आणि मला पुणे आवडते", [], "mr"),
        ("БУДЬТЕ ВНИМАТЕЛЬНЫ НА ДОРОГЕ", [], "ru"),
        ("HEUTE IST EIN SCHÖNER TAG IN MÜNCHEN", [], "de"),
        ("line one is here\nand line two\0 of the post", [], "en"),
    ],
)
def test_language_by_script_and_declaration(
    text: str, declared: list[str], lang: str
) -> None:
    assert detect_language(text, declared) == lang


@pytest.mark.parametrize(
    ("tag", "primary"),
    [
        ("en", "en"),
        ("en_US", "en"),
        (" PT-br ", "pt"),
        ("zh-Hant-TW", "zh"),
        ("nb", "no"),
        ("iw", "he"),
        ("", ""),
        ("x" * 300, ""),
        ("e1", ""),
    ],
)
def test_primary_language(tag: str, primary: str) -> None:
    assert primary_language(tag) == primary


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=80), st.lists(st.text(), max_size=3))
def test_any_text_has_a_language_or_none(text: str, declared: list[str]) -> None:
    assert detect_language(text, declared).isalpha()
