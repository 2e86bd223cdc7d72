"""Words of folded text: their pattern, and the further tokens of one word."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

from search.text.emoji import EMOJI, REGIONS, SEQUENCE, parts_of_emoji
from search.text.folding import MARKS, fold

MAX_TOKEN_CHARS: Final = 64
"""Longer words are cut, to bound the index."""
_MAX_PARTS: Final = 12
_MAX_CLUSTER: Final = 12

CJK: Final = (
    "\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u3096"
    "\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U00016fe0-\U00016fe3\U00017000-\U00018cff\U0001aff0-\U0001b2ff"
    "\U00020000-\U000323af"
)
"""Ranges of Han, kana, Hangul and Bopomofo."""
_SEA: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf\u1000-\u103f\u104e-\u109f\u1780-\u17d3"
    "\u17d7\u17dc\u17dd\ua9e0-\ua9fe\uaa60-\uaa7f"
)
"""Ranges of Thai, Lao, Myanmar and Khmer."""
_UNSPACED: Final = re.compile(rf"[{CJK}{_SEA}]")
_STACKERS: Final = "\u1039\u17d2"
"""Marks that put the next consonant below the one before."""
_CLUSTER: Final = re.compile(rf"[^\n](?:[{_STACKERS}][^\n]|[{MARKS}\u0e33\u0eb3])*")

_PLAIN: Final = rf"[^\W_{CJK}{_SEA}]"


def _pattern(letter: str, word: str) -> str:
    """Return the pattern of a word: parts joined by ', _ or a decimal point."""
    return (
        rf"{word}(?:(?:['`]|_+|(?<=[0-9])[.,](?=[0-9])){word})*"
        rf"(?:\+\+(?<=\b[cg]\+\+)(?!{letter})|#(?<=\b[acfjq]#)(?!{letter}))?"
        rf"|\$[a-z]{{1,10}}(?!{letter})"
    )


_ASCII_PIECE: Final = re.compile(_pattern("[a-z0-9]", "[a-z0-9]+"))
_PIECE: Final = re.compile(
    rf"{SEQUENCE}|[{CJK}]+|[{_SEA}]+|"
    + _pattern(_PLAIN, rf"{_PLAIN}+(?:[{MARKS}]+{_PLAIN}*)*")
)
_EMOJI_START: Final = re.compile(rf"[{EMOJI}{REGIONS}]|[0-9#*]\u20e3")
_CAMEL: Final = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
_CAMEL_WORD: Final = re.compile(r"[A-Za-z0-9]+")
_CAMEL_PART: Final = re.compile(
    r"[A-Z]+(?=[A-Z][a-z0-9]{2})|[A-Z]?[a-z0-9]+|[A-Z]+[a-z0-9]*"
)
_MAX_CAMEL_CHARS: Final = 40
_HYPHENED: Final = re.compile(
    rf"(?<![\w\-.])({_PLAIN}{{1,12}})[-\u2010\u2011]({_PLAIN}{{2,12}})(?![\w\-])"
)
_RING_WORD: Final = re.compile(r"[^\W_]*[åÅ][^\W_]*")
_DOUBLE_A: Final = re.compile(r"(?<![\w$])aa[a-z]+|\b[a-z]{1,40}gaard[a-z]*")
_JOINERS: Final = re.compile(r"['`_]+")
_THOUSANDS: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")
_ENDINGS: Final = frozenset({"t", "s", "m", "d", "ll", "re", "ve"})
"""What follows an apostrophe in contractions and possessives."""


class Tokens(NamedTuple):
    """The tokens of one piece of text.

    `main` are adjacent to those of the pieces around; `other` have no place.
    """

    main: list[str]
    other: list[str]


def find_pieces(folded: str) -> re.Pattern[str]:
    """Return the pattern whose matches are the pieces of a folded text."""
    return _ASCII_PIECE if folded.isascii() else _PIECE


def split_piece(piece: str) -> Tokens:
    """Return the tokens of one match of the pattern."""
    if piece.isascii():
        return _split_compound(piece) if not piece.isalnum() else _one(piece)
    if _UNSPACED.match(piece):
        units = clusters(piece)
        if len(units) == 1:
            return Tokens(units, [])
        pairs = [a + b for a, b in pairwise(units)]
        return Tokens(pairs, [units[-1]])
    if _EMOJI_START.match(piece):
        return Tokens([piece], parts_of_emoji(piece))
    if _JOINERS.search(piece) or "." in piece or "," in piece:
        return _split_compound(piece)
    return _one(piece)


def is_unspaced(piece: str) -> bool:
    """Return True for a run of a script without spaces between words."""
    return _UNSPACED.match(piece) is not None


def clusters(run: str) -> list[str]:
    """Return the characters of a run with the marks that belong to them."""
    if "\u0e00" <= run[0] <= "\u17ff" and not "\u1100" <= run[0] <= "\u11ff":
        return [unit[:_MAX_CLUSTER] for unit in _CLUSTER.findall(run)]
    if run[0] >= "\ua9e0" and run[0] <= "\uaa7f":
        return [unit[:_MAX_CLUSTER] for unit in _CLUSTER.findall(run)]
    return list(run)


def _one(word: str) -> Tokens:
    return Tokens([word[:MAX_TOKEN_CHARS]], [])


def _split_compound(piece: str) -> Tokens:
    if piece[0] == "$":
        return Tokens([piece], [piece[1:]])
    if piece[-1] in "+#":
        return Tokens([piece], [piece.rstrip("+#")])
    piece = piece[: 4 * MAX_TOKEN_CHARS]
    other: list[str] = []
    if "." in piece or "," in piece:
        if _THOUSANDS.fullmatch(piece):
            return _one(piece.replace(",", ""))
        if piece.count(",") > 1:
            return Tokens(piece.split(",")[:_MAX_PARTS], [])
        piece = piece.replace(",", ".")
        if piece[0] == "v" and piece[1:2].isdigit():
            other.append(piece[1 : MAX_TOKEN_CHARS + 1])
    parts = _JOINERS.split(piece)
    if len(parts) > 1:
        other += _useful_parts(parts)
    return Tokens(["".join(parts)[:MAX_TOKEN_CHARS]], other)


def _useful_parts(parts: list[str]) -> list[str]:
    if len(parts) == 2 and parts[1] in _ENDINGS:
        if parts[1] == "t" and parts[0].endswith("n"):
            return []
        parts = parts[:1]
    return [p[:MAX_TOKEN_CHARS] for p in parts[:_MAX_PARTS] if len(p) > 1]


def other_spellings(text: str, folded: str) -> list[str]:
    """Return further tokens of a text: parts of camelCase, joined hyphens, aa for å."""
    found: list[str] = []
    if _CAMEL.search(text):
        for word in _CAMEL_WORD.findall(text):
            found += camel_parts(word)
    if "-" in folded or "\u2010" in folded:
        found += (a + b for a, b in _HYPHENED.findall(folded))
    if "aa" in folded:
        found += (word.replace("aa", "a") for word in _DOUBLE_A.findall(folded))
    if "å" in text or "Å" in text:
        for word in re.findall(r"[^\W_]+", text):
            if "å" in word or "Å" in word:
                found.append(with_double_a(word))
    return found


def camel_parts(word: str) -> list[str]:
    """Return the parts of a camelCase word; none for any other word."""
    if len(word) > _MAX_CAMEL_CHARS or not _CAMEL.search(word):
        return []
    parts = _CAMEL_PART.findall(word)
    if len(parts) < 2:
        return []
    return [part.lower() for part in parts[:_MAX_PARTS] if len(part) > 2]


def with_double_a(word: str) -> str:
    """Return the folded word with aa in place of å."""
    return fold(word.replace("å", "aa").replace("Å", "aa"))[:MAX_TOKEN_CHARS]
