"""Regular expressions of recipes: those of Python, in linear work."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.recipes.patterns import InvalidPatternError, Pattern

_ATOMS = ("a", "b", "c", ".", r"\w", r"\d", "[ab]", "[^a]", r"\b", r"\B", "^", "$", " ")
_COUNTS = ("*", "+", "?", "*?", "{2}", "{1,3}", "{2,}")


def draw_pattern(random: Random, depth: int = 0) -> str:
    kind = random.randrange(9 if depth < 4 else 4)
    if kind < 4:
        return random.choice(_ATOMS)
    first = draw_pattern(random, depth + 1)
    if kind < 6:
        return first + draw_pattern(random, depth + 1)
    if kind == 6:
        return f"(?:{first}|{draw_pattern(random, depth + 1)})"
    return f"({first}){random.choice(_COUNTS)}"


@given(st.integers(0, 2**32))
def test_patterns_find_what_python_finds(seed: int) -> None:
    random = Random(seed)
    source = draw_pattern(random)
    pattern, expected = Pattern(source), re.compile(source, re.IGNORECASE)
    for _ in range(5):
        text = "".join(random.choices("aAb_ 1cé", k=random.randint(1, 8)))
        assert pattern.found_in(text) == bool(expected.search(text)), (source, text)


@pytest.mark.parametrize(
    ("source", "found", "missed"),
    [
        (r"\bcats?\b|kitten", "A CAT.", "category"),
        (r"[0-9]{3}-[0-9]{4}", "call 555-1234", "55-1234"),
        (r"straße", "STRASSE", "strase"),
        (r"[A-C]{2}", "xbc", "xbd"),
        (r"[^\s\d]x", "ax", "1x"),
        (r"\.com$", "example.com", "example.com/"),
        (r"[]a-]+!", "]-a!", "b!"),
        ("日本|寿司", "寿司を食べた", "日 本"),
    ],
)
def test_patterns_by_example(source: str, found: str, missed: str) -> None:
    pattern = Pattern(source)
    assert pattern.found_in(found)
    assert not pattern.found_in(missed)


@pytest.mark.parametrize(
    "source",
    [
        "", "(", ")", "a**", "*a", "[", "[z-a]", "(?=a)", r"\1", r"a{2", "a{3,2}",
        "a{0}", "a{101}", "(a{50}){50}", "(" * 30 + "a" + ")" * 30, "a" * 501, r"\p{L}",
        "a{1,,2}", "(?P<n>a)", "\\",
    ],
)  # fmt: skip
def test_unsupported_and_large_patterns_are_refused(source: str) -> None:
    with pytest.raises(InvalidPatternError):
        Pattern(source)


def test_hostile_patterns_stop_after_a_bounded_number_of_states() -> None:
    pattern = Pattern("(a|b)*a(a|b){40}c")
    random = Random(3)
    for _ in range(3):
        text = "".join(random.choices("ab", k=300_000))
        assert not pattern.found_in(text)
    assert Pattern("(x+x+)+y").found_in("x" * 2_000 + "y")


def test_what_is_remembered_changes_no_result() -> None:
    random = Random(5)
    pattern = Pattern(r"(a|b)*a(a|b){9}c\b")
    texts = ["".join(random.choices("ababababababc ", k=60)) for _ in range(300)]
    first = [pattern.found_in(text) for text in texts]
    assert [Pattern(pattern.source).found_in(text) for text in texts] == first
    assert [pattern.found_in(text) for text in texts] == first
    assert any(first)
