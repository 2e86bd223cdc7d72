"""Highlights: the places of matching words in a text, and the best part to show."""

from __future__ import annotations

from collections.abc import Iterable

from search.text.tokens import Clause

Span = tuple[int, int]


def highlight(text: str, clauses: Iterable[Clause]) -> list[Span]:
    """Return the UTF-8 byte offsets of the words that match a clause."""
    return []


def snippet(
    text: str, spans: Iterable[Span], length: int = 200
) -> tuple[str, list[Span]]:
    """Return the part of a text with the most matches, and its spans."""
    return text[:length], []
