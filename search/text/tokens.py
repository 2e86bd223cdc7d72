"""Tokens of a text, for documents and queries alike.

A word is one token. A run of Han, kana or Hangul gives the pairs of its characters, a
run of Thai, Lao, Khmer or Myanmar the pairs of its clusters. After these, in the order
of the text, come tokens without a place: the last character of each run, parts of
compounds, and other spellings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

from search.text.folding import fold
from search.text.words import (
    MAX_TOKEN_CHARS,
    ascii_words,
    other_spellings,
    pieces_of,
    split_piece,
)

_MAX_CHARS_OF_TOKEN: Final = 64
_MAX_CLAUSES: Final = 1_000
_GAP: Final = re.compile(r"[.-]")
"""Signs that join the words of a domain or a compound to one phrase."""


@dataclass(frozen=True, slots=True)
class Clause:
    """Adjacent tokens in order; one word is one token.

    `prefix` lets the last token match any longer word. A document that holds one of
    `variants` matches too.
    """

    tokens: tuple[str, ...]
    prefix: bool = False
    variants: tuple[str, ...] = ()


def tokenize(text: str, *, limit: int = 16_000) -> list[str]:
    """Return the tokens of a document, at most `limit` of them.

    Those of its words come first and in order, so that adjacent ones make a phrase.
    """
    text = text[: limit * _MAX_CHARS_OF_TOKEN]
    folded = fold(text)
    if folded.isascii():
        tokens, other = ascii_words(folded)
    else:
        tokens, other = [], []
        for match in pieces_of(folded).finditer(folded):
            piece, kind = match.group(), match.lastgroup
            if kind is None and piece.isalnum() and len(piece) <= MAX_TOKEN_CHARS:
                tokens.append(piece)
            elif kind == "pairs" and 1 < (length := len(piece)) <= limit:
                tokens += [piece[i : i + 2] for i in range(length - 1)]
                other.append(piece[-1])
            else:
                main, more = split_piece(piece[: limit * _MAX_CHARS_OF_TOKEN], kind)
                tokens += main
                other += more
            if len(tokens) >= limit:
                break
    other += other_spellings(text, folded)
    if other:
        tokens += dict.fromkeys(other)
    return tokens[:limit]


def query_tokens(text: str) -> list[Clause]:
    """Return the clauses that a document must hold to match the words of a query.

    The words of a domain or a hyphened compound are one clause, as is each run of a
    script without spaces. Concatenated, their tokens are those of the phrase.
    """
    folded = fold(text)
    clauses: list[Clause] = []
    end = -1
    for match in islice(pieces_of(folded).finditer(folded), _MAX_CLAUSES):
        piece, kind = match.group(), match.lastgroup
        main, last_of_run = split_piece(piece, kind)
        if kind in ("pairs", "clusters"):
            clauses.append(Clause(tuple(main), prefix=not last_of_run))
            end = -1
            continue
        if end >= 0 and _GAP.fullmatch(folded, end, match.start()):
            last = clauses[-1].tokens
            hyphened = len(last) == 1 and folded[end] != "."
            joined = (last[0] + main[0],) if hyphened else ()
            clauses[-1] = Clause((*last, *main), variants=joined)
        else:
            clauses.append(Clause(tuple(main), variants=_variants(piece)))
        end = match.end()
    return clauses


def phrase(text: str) -> Clause | None:
    """Return the words of a quoted text as one clause; None without any word."""
    clauses = query_tokens(text)
    if not clauses:
        return None
    tokens = tuple(token for clause in clauses for token in clause.tokens)
    return Clause(tokens, prefix=clauses[-1].prefix)


def _variants(piece: str) -> tuple[str, ...]:
    if "'" in piece and piece.endswith("'s"):
        return (piece[:-2],)
    return ()
