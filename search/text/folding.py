"""Folding: one form for all spellings of the same text.

NFKC and case folding; optional marks, invisible characters and accents are removed.
Vowel signs of Indic scripts and voiced sounds of Japanese are kept: without them a word
is another word.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from search.text.emoji import SKIN_TONES, join_sequences


def _marks() -> str:
    """Return the character class ranges of all combining marks."""
    ranges: list[list[int]] = []
    for first, last in (
        (0x300, 0x1DFF),
        (0x20D0, 0x20F0),
        (0x2CEF, 0x2DFF),
        (0x302A, 0x309A),
        (0xA66F, 0xABED),
        (0xFB1E, 0xFB1E),
        (0xFE00, 0xFE2F),
        (0x101FD, 0x11FFF),
        (0x16AF0, 0x16FE4),
        (0x1D165, 0x1D244),
        (0x1E000, 0x1E94A),
    ):
        for code in range(first, last + 1):
            if unicodedata.category(chr(code))[0] == "M":
                if ranges and ranges[-1][1] == code - 1:
                    ranges[-1][1] = code
                else:
                    ranges.append([code, code])
    return "".join(f"{chr(a)}-{chr(b)}" if a < b else chr(a) for a, b in ranges)


MARKS: Final = _marks()
"""Ranges of a character class."""
_LONG_TEXT: Final = 1_000
_MAX_MARKS: Final = 30
"""Marks on one letter. Normalization is quadratic in their number."""
_MARK_RUN: Final = re.compile(rf"([{MARKS}]{{{_MAX_MARKS}}})[{MARKS}]+")

_OPTIONAL_MARKS: Final = (
    range(0x300, 0x370),  # accents of Latin, Greek and Cyrillic; Vietnamese tones
    range(0x483, 0x48A),
    range(0x591, 0x5BE),  # Hebrew points
    (0x5BF, 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7),
    range(0x610, 0x61B),  # Arabic points
    range(0x64B, 0x660),
    (0x670, 0x640),
    range(0x6D6, 0x6DD),
    (*range(0x6DF, 0x6E5), 0x6E7, 0x6E8, *range(0x6EA, 0x6EE)),
    (0x711, *range(0x730, 0x74B)),  # Syriac points
    (0x93C,),  # Devanagari nukta
    range(0x1AB0, 0x1B00),
    range(0x1DC0, 0x1E00),
    range(0x20D0, 0x20E3),
    range(0xFE20, 0xFE30),
)
_INVISIBLE: Final = (
    (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F),
    (0x2800, 0x3164, 0xFFA0),
    range(0xFE00, 0xFE10),  # variation selectors
    range(0xE0000, 0xE0200),
    SKIN_TONES,
)
_DROPPED: Final = frozenset(
    code for group in (*_OPTIONAL_MARKS, *_INVISIBLE) for code in group
)
_AM: Final = re.compile(
    "([\u0e4d\u0ecd])([\u0e48-\u0e4b\u0ec8-\u0ecb]?)([\u0e32\u0eb2])"
)
_LETTERS: Final = {
    "ı": "i",
    "ł": "l",
    "đ": "d",
    "ø": "o",
    "æ": "ae",
    "œ": "oe",
    "ð": "d",
    "þ": "th",
    "ħ": "h",
    "ŧ": "t",
    "ŋ": "n",
    "ɓ": "b",
    "ɗ": "d",
    "ƙ": "k",
    "й": "й",
    "ی": "ي",
    "ى": "ي",
    "ې": "ي",
    "ک": "ك",
    "ة": "ه",
    "ہ": "ه",
    "ۃ": "ه",
    "ە": "ه",
    "ۀ": "ه",
    "\u2010": "-",
    "\u2011": "-",
    "\u066b": ".",
    "\u066c": ",",
}
_APOSTROPHES: Final = "’‘‛′ʼʻʹ՚׳״ꞌߴߵ＇`·"
_KATAKANA: Final = (*range(0x30A1, 0x30F7), 0x30FD, 0x30FE)
_KANA_STEP: Final = 0x60
_KEPT_CODES: Final = 0x30_000
"""Only these are remembered, to bound the table."""


class _Folds(dict[int, str | int | None]):
    """Folded form of each code point for `str.translate`, filled when needed."""

    def __missing__(self, code: int) -> str | int | None:
        folded = _fold_character(code)
        if code < _KEPT_CODES:
            self[code] = folded
        return folded


def _fold_character(code: int) -> str | int | None:
    character = chr(code)
    if code in _DROPPED:
        return None
    if code == 0x200D:
        return code
    category = unicodedata.category(character)
    if category == "Cf":
        return None
    if category == "Nd":
        return str(unicodedata.digit(character))
    if code in _KATAKANA:
        return code - _KANA_STEP
    lower = character.lower()
    if lower in _LETTERS:
        return _LETTERS[lower]
    parts = unicodedata.normalize("NFD", character)
    kept = "".join(c for c in parts if ord(c) not in _DROPPED)
    folded = unicodedata.normalize("NFC", kept.casefold())
    if folded != character and len(folded) <= 4:
        folded = "".join(_LETTERS.get(c, c) for c in folded)
        folded = folded.translate(_KANA)
    return folded if folded != character else code


_KANA: Final = {code: code - _KANA_STEP for code in _KATAKANA}
_FOLDS: Final = _Folds({ord(c): "'" for c in _APOSTROPHES})


def cut_marks(text: str) -> str:
    """Return the text with at most 30 marks on one letter."""
    return text if len(text) <= _LONG_TEXT else _MARK_RUN.sub(r"\1", text)


def fold(text: str) -> str:
    """Return the folded form of a text; words are found in it by `search.text.words`.

    Linear in the length of the text, any it holds.
    """
    if text.isascii():
        return text.lower()
    text = cut_marks(text)
    if "™" in text:
        text = text.replace("™", " ")
    if "´" in text:
        text = text.replace("´", "'")
    text = unicodedata.normalize("NFKC", text)
    if "\u0e4d" in text or "\u0ecd" in text:
        # NFKC takes the vowels am of Thai and Lao apart.
        text = _AM.sub(lambda m: m[2] + chr(ord(m[3]) + 1), text)
    return join_sequences(text).translate(_FOLDS)
