"""Words and filters as text of tsvector and tsquery.

Both are cast and never parsed by Postgres, which would drop emoji and split words in
its own way. Filters share the vector with the words, under prefixes with a colon, which
no token holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from search.query.nodes import Words

_MAX_POSITION = 16_383
"""Last word position of Postgres; later words are found, but not in phrases."""
_MAX_LEXEME_BYTES = 2_046
_MAX_VECTOR_BYTES = 1_000_000
"""Bounds of Postgres: a longer lexeme, and a vector of 1,048,576 bytes, are refused.

Larger parts are left out, so that one record cannot stop the index.
"""

TAG = "t:"
MENTION = "m:"
DOMAIN = "d:"
URL = "u:"
LANG = "l:"
FEATURE = "h:"
PARENT = "p:"
ROOT = "r:"
QUOTE = "q:"
AUTHOR = "a:"
COLLECTION = "c:"
TIER = "s:"
BEGIN = "b:"


_NOWHERE: Sequence[str] = ()
NO_LEXEME = "!:"
"""A lexeme of no document."""


def quote_lexeme(lexeme: str) -> str:
    """Return the lexeme in the quotes of tsvector and tsquery."""
    if "'" in lexeme or "\\" in lexeme:
        lexeme = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{lexeme}'"


def encode_tsvector(
    sections: Iterable[tuple[Sequence[str], str]], filters: Iterable[str] = ()
) -> str:
    """Return tsvector text of sections (tokens, weight) and filters.

    Positions run on, with a gap of one between sections, so that no phrase spans two.
    Lexemes that are too long or too many are left out.
    """
    places: dict[str, list[str]] = {}
    first = 1
    for tokens, weight in sections:
        for position, token in enumerate(tokens, first):
            place = f"{position if position < _MAX_POSITION else _MAX_POSITION}{weight}"
            at = places.get(token)
            if at is None:
                places[token] = [place]
            elif len(at) < 255:
                at.append(place)
        first += len(tokens) + 1
    bare = dict.fromkeys(sorted(set(filters)), _NOWHERE)
    found: Iterable[tuple[str, Sequence[str]]] = chain(places.items(), bare.items())
    lengths = list(map(len, chain(places, bare)))
    if 4 * max(lengths, default=0) > _MAX_LEXEME_BYTES or (
        4 * sum(lengths) + 3 * len(lengths) + 2 * first > _MAX_VECTOR_BYTES
    ):
        found = _that_fit(found)
    return " ".join(
        [quote_lexeme(word) + (f":{','.join(at)}" if at else "") for word, at in found]
    )


def _that_fit(
    found: Iterable[tuple[str, Sequence[str]]],
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the lexemes that a vector has room for."""
    room = _MAX_VECTOR_BYTES
    for word, at in found:
        size = len(word.encode())
        # Beside the lexeme, aligned: the number of positions, and two bytes for each.
        needed = size + 3 + 2 * len(at)
        if size <= _MAX_LEXEME_BYTES and needed <= room:
            room -= needed
            yield word, at


def encode_clause(clause: Words, weights: str = "") -> str:
    """Return tsquery text of adjacent tokens, the last perhaps a prefix."""
    suffix = f":{weights}" if weights else ""
    parts = [sought(token) + suffix for token in clause.tokens]
    if clause.prefix:
        parts[-1] = sought(clause.tokens[-1]) + f":*{weights}"
    return "(" + " <-> ".join(parts) + ")"


def any_of(prefix: str, values: Iterable[str]) -> str:
    """Return tsquery text for one of these filters."""
    return "(" + " | ".join(sought(prefix + value) for value in values) + ")"


def sought(lexeme: str) -> str:
    """Return a lexeme for a query; one too long for any vector matches nothing."""
    fits = len(lexeme.encode("utf-8", "replace")) <= _MAX_LEXEME_BYTES
    fits = fits and "\0" not in lexeme
    return quote_lexeme(lexeme if fits else NO_LEXEME)
