"""Words of folded text: their pattern, and the further tokens of one word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from search.text.emoji import SEQUENCE, parts_of_emoji
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
_UNSPACED: Final = re.compile(f"[{CJK}{_SEA}]")
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
_ASCII_LOOSE: Final = re.compile(
    r"[a-z0-9$]+(?:['`_.,+#]+[a-z0-9$]+)*(?:[+#]+(?![a-z0-9]))?"
)
"""A run that holds whole pieces, faster to find."""
_PIECE: Final = re.compile(
    _pattern(_PLAIN, rf"{_PLAIN}+(?:[{MARKS}]+{_PLAIN}*)*")
    + rf"|(?P<pairs>[{CJK}]+)|(?P<clusters>[{_SEA}]+)|(?P<emoji>{SEQUENCE})"
)
_CAMEL: Final = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
_CAMEL_PART: Final = re.compile(
    r"[A-Z]+(?=[A-Z][a-z0-9]{2})|[A-Z]?[a-z0-9]+|[A-Z]+[a-z0-9]*"
)
_MAX_CAMEL_CHARS: Final = 40
_HYPHEN: Final = re.compile(r"-(?<=\w-)(?=\w\w)")
_MAX_HALF: Final = 12
_WORD: Final = re.compile(r"[^\W_]+")
_DOUBLE_A: Final = re.compile(r"(?<![\w$])aa[a-z]{1,40}(?![^\W_])")
_GAARD: Final = re.compile(r"gaard[a-z]{0,20}")
_JOINERS: Final = re.compile(r"['`_]+")
_THOUSANDS: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")
_ENDINGS: Final = frozenset({"t", "s", "m", "d", "ll", "re", "ve"})
"""Endings after an apostrophe in contractions and possessives."""


def is_unspaced(token: str) -> bool:
    """Return True if a token is of a script that writes no spaces between words."""
    return _UNSPACED.match(token) is not None


class Tokens(NamedTuple):
    """The tokens of one piece of text.

    `main` are adjacent to those of the pieces around; `other` have no place.
    """

    main: list[str]
    other: list[str]


def pieces_of(folded: str) -> re.Pattern[str]:
    """Return the pattern whose matches are the pieces of a folded text.

    Its group `pairs` holds a run of characters, `clusters` one of clusters, `emoji` an
    emoji. Any other match is a word.
    """
    return _ASCII_PIECE if folded.isascii() else _PIECE


def ascii_words(folded: str) -> tuple[list[str], list[str]]:
    """Return the words of a folded ASCII text, and the further tokens of compounds."""
    words: list[str] = []
    other: list[str] = []
    for loose in _ASCII_LOOSE.findall(folded):
        if loose.isalnum() and len(loose) <= MAX_TOKEN_CHARS:
            words.append(loose)
            continue
        if len(loose) < MAX_TOKEN_CHARS and loose.replace(".", "").isalpha():
            words += filter(None, loose.split("."))  # a domain
            continue
        for piece in _ASCII_PIECE.findall(loose):
            main, more = split_word(piece)
            words += main
            other += more
    return words, other


def split_piece(piece: str, kind: str | None) -> Tokens:
    """Return the tokens of a match of the pattern and of its group."""
    if kind is None:
        return split_word(piece)
    if kind == "emoji":
        return Tokens([piece], parts_of_emoji(piece))
    units: Sequence[str] = piece
    if kind == "clusters":
        units = [unit[:_MAX_CLUSTER] for unit in clusters_of(piece)]
    if len(units) == 1:
        return Tokens([units[0]], [])
    return Tokens([a + b for a, b in pairwise(units)], [units[-1]])


def clusters_of(run: str) -> list[str]:
    """Return the letters of a run with the marks that belong to them."""
    return _CLUSTER.findall(run)


def split_word(piece: str) -> Tokens:
    """Return the tokens of a word; a compound has others for its parts."""
    if piece[0] == "$":
        return Tokens([piece], [piece[1:]])
    if piece[-1] in "+#":
        return Tokens([piece], [piece.rstrip("+#")])
    piece = piece[: 4 * MAX_TOKEN_CHARS]
    other: list[str] = []
    if "." in piece or "," in piece:
        if _THOUSANDS.fullmatch(piece):
            piece = piece.replace(",", "")
        if piece.count(",") > 1:
            return Tokens(piece.split(",")[:_MAX_PARTS], [])
        piece = piece.replace(",", ".")
        if piece[0] == "v" and piece[1:2].isdigit():
            other.append(piece[1 : MAX_TOKEN_CHARS + 1])
    parts = _JOINERS.split(piece)
    if len(parts) > 1:
        other += _useful_parts(parts)
        piece = "".join(parts)
    return Tokens([piece[:MAX_TOKEN_CHARS]], other)


def _useful_parts(parts: list[str]) -> list[str]:
    if len(parts) == 2 and parts[1] in _ENDINGS:
        if parts[1] == "t" and parts[0].endswith("n"):
            return []
        parts = parts[:1]
    return [p[:MAX_TOKEN_CHARS] for p in parts[:_MAX_PARTS] if len(p) > 1]


def other_spellings(text: str, folded: str) -> list[str]:
    """Return further tokens of a text: parts of camelCase, joined hyphens, aa for å."""
    found: list[str] = []
    for part in text.split():
        if not part.islower() and _CAMEL.search(part):
            for word in _WORD.findall(part):
                found += camel_parts(word)
    if "-" in folded:
        found += (word for _, _, word in joined_hyphens(folded))
    if "aa" in folded:
        found += (word for _, _, word in single_a_words(folded))
    if "å" in text or "Å" in text:
        for word in _WORD.findall(text):
            if "å" in word or "Å" in word:
                found.append(with_double_a(word))
    return found


def start_of_word(text: str, at: int, limit: int) -> int:
    """Return where the word around a place begins, at most `limit` before it."""
    least = max(0, at - limit)
    while at > least and text[at - 1].isalnum():
        at -= 1
    return at


def joined_hyphens(folded: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and joined form of compounds of two words, as in `wi-fi`."""
    for hyphen in _HYPHEN.finditer(folded):
        start = start_of_word(folded, hyphen.start(), _MAX_HALF)
        right = _WORD.match(folded, hyphen.end())
        if right is None or right.end() - right.start() > _MAX_HALF:
            continue
        around = folded[start - 1 : start] + folded[right.end() : right.end() + 1]
        if start < hyphen.start() and not any(c.isalnum() or c in "-_" for c in around):
            yield start, right.end(), folded[start : hyphen.start()] + right.group()


def single_a_words(folded: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and the form with å of words as Aarhus and Kierkegaard."""
    for word in _DOUBLE_A.finditer(folded):
        yield word.start(), word.end(), "a" + word.group()[2:]
    for word in _GAARD.finditer(folded):
        start = start_of_word(folded, word.start(), _MAX_CAMEL_CHARS)
        name = folded[start : word.end()]
        yield start, word.end(), name.replace("aa", "a")


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
    folded = fold(word.replace("å", "aa").replace("Å", "aa"))
    # One character may stand for several words.
    return "".join(filter(str.isalnum, folded))[:MAX_TOKEN_CHARS]
