"""Grapheme clusters, the characters that lexicons count."""

from __future__ import annotations

from typing import Final

import regex

_GRAPHEME: Final = regex.compile(r"\X")


def count_graphemes(text: str, limit: int) -> int:
    """Return the number of grapheme clusters of `text`, at most `limit` + 1."""
    count = 0
    for _ in _GRAPHEME.finditer(text):
        count += 1
        if count > limit:
            break
    return count


def cut_text(text: str, *, graphemes: int, size: int) -> str:
    """Return the longest prefix of whole clusters within both bounds."""
    # A cluster has at least one character, a character at most four bytes of UTF-8.
    if len(text) <= graphemes and len(text) * 4 <= size:
        return text
    end = taken = 0
    for count, match in enumerate(_GRAPHEME.finditer(text), 1):
        taken += len(match[0].encode("utf-8", "replace"))
        if count > graphemes or taken > size:
            return text[:end]
        end = match.end()
    return text
