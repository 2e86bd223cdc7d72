"""The language of a text, by its script first and then by its letters."""

from __future__ import annotations

from collections.abc import Sequence


def detect_language(text: str, declared: Sequence[str] = ()) -> str:
    """Return the two-letter code of the language of a text, `und` if unknown."""
    return "und"
