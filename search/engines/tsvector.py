"""Words and filters as Postgres tsvector and tsquery text.

Both are built here and cast, never through Postgres' own parser: it would drop emoji
and split words its own way. Filters share the vector with the words, under prefixes
that no token can have (tokens hold no colon), so one index answers both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from search.query import Clause

_MAX_POSITION = 16_383
"""Postgres' last word position; later words are found, but not in phrases."""
_MAX_LEXEME_BYTES = 2_046
_MAX_VECTOR_BYTES = 1_000_000
"""Postgres refuses a longer lexeme, and a vector of 1,048,576 bytes. What does not fit
is left out: one record must never keep all others from being indexed."""

TAG = "t:"
MENTION = "m:"
DOMAIN = "d:"
URL = "u:"
LANG = "l:"
FEATURE = "h:"


# No token has a colon, and no filter begins so.
_NO_LEXEME = "!:"


def quote_lexeme(lexeme: str) -> str:
    """The lexeme as tsvector and tsquery text take it."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def encode_tsvector(
    sections: Iterable[tuple[Sequence[str], str]], filters: Iterable[str] = ()
) -> str:
    """tsvector text of (tokens, weight) sections, positions running on, and filters.

    A gap of one position stands between sections, so no phrase spans two of them. A
    lexeme that is too long, or one too many, is left out.
    """
    places: dict[str, list[str]] = {}
    position = 0
    for tokens, weight in sections:
        for token in tokens:
            position += 1
            at = places.setdefault(token, [])
            if len(at) < 255:
                at.append(f"{min(position, _MAX_POSITION)}{weight}")
        position += 1
    parts: list[str] = []
    room = _MAX_VECTOR_BYTES
    bare: Iterator[tuple[str, list[str]]] = ((f, []) for f in sorted(set(filters)))
    for word, at in chain(places.items(), bare):
        size = len(word.encode())
        # Behind it, aligned: how many places it has, and two bytes for each.
        needed = size + 3 + 2 * len(at)
        if size <= _MAX_LEXEME_BYTES and needed <= room:
            room -= needed
            parts.append(quote_lexeme(word) + (f":{','.join(at)}" if at else ""))
    return " ".join(parts)


def encode_clause(clause: Clause, weights: str = "") -> str:
    """tsquery text of one clause: adjacent tokens, the last perhaps a prefix."""
    suffix = f":{weights}" if weights else ""
    parts = [_sought(token) + suffix for token in clause.tokens]
    if clause.prefix:
        parts[-1] = _sought(clause.tokens[-1]) + f":*{weights}"
    return "(" + " <-> ".join(parts) + ")"


def any_of(prefix: str, values: Iterable[str]) -> str:
    """tsquery text: one of these filters."""
    return "(" + " | ".join(_sought(prefix + value) for value in values) + ")"


def all_of(prefix: str, values: Iterable[str]) -> list[str]:
    """tsquery texts: each of these filters."""
    return [_sought(prefix + value) for value in values]


def none_of(prefix: str, values: Iterable[str]) -> list[str]:
    """tsquery texts: none of these filters."""
    return ["!" + text for text in all_of(prefix, values)]


def _sought(lexeme: str) -> str:
    """The lexeme in a query; one that is too long for any vector matches nothing."""
    fits = len(lexeme.encode()) <= _MAX_LEXEME_BYTES
    return quote_lexeme(lexeme if fits else _NO_LEXEME)
