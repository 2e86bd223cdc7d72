"""Known-item queries: each has one post as its answer."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench.relevance.corpus import Language
from bench.relevance.filling import Placed

FORMS: Final = ("rare", "typo", "operator", "first")
"""Three rare words; one of them misspelt; an operator; the first words."""

_RARE_SHARE: Final = 0.004
"""Words in more than this share of the posts are not rare."""
_MARKS: Final = frozenset({"Mn", "Mc", "Lm"})
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_CYRILLIC: Final = "абвгдежзийклмнопрстуфхцчшщыьэюя"


@dataclass(frozen=True, slots=True)
class KnownItem:
    """A query and the post that it is about."""

    lang: str
    form: str
    text: str
    wanted: Placed


def make_known_items(
    language: Language, placed: Sequence[Placed], count: int
) -> list[KnownItem]:
    """Return `count` queries of each form, for generated posts of a language."""
    own = [p for p in placed if p.post.lang == language.code and p.post.words]
    used = Counter(word for p in own for word in {*p.post.words})
    most = max(2, int(_RARE_SHARE * len(own)))
    draw = random.Random(f"{language.code} known items")
    known: list[KnownItem] = []
    for p in draw.sample(own, len(own)):
        rare = [w for w in dict.fromkeys(p.post.words) if used[w] <= most]
        words = [w for w in rare if len(w) > 1]
        if len(words) < 3:
            continue
        known += _make_items(language, draw, p, draw.sample(words, 3))
        if len(known) >= count * len(FORMS):
            break
    return known


def _make_items(
    language: Language, draw: random.Random, p: Placed, words: list[str]
) -> Iterator[KnownItem]:
    texts = {
        "rare": " ".join(words),
        "typo": " ".join(_misspell_one(draw, words)),
        "operator": f"{words[0]} {words[1]} {draw.choice(_operators(p))}",
        "first": language.space.join(p.post.words[:5]),
    }
    for form in FORMS:
        yield KnownItem(language.code, form, texts[form], p)


def _operators(p: Placed) -> list[str]:
    found = [
        f"from:{p.handle}",
        f"lang:{p.post.lang}",
        f"since:{p.at.date()}",
    ]
    found += [f"#{tag}" for tag in p.post.tags]
    if p.post.alts:
        found.append("has:images")
    elif p.post.link is not None:
        found += ["has:link", f"domain:{p.post.link[0].split('/')[2]}"]
    return found


def _misspell_one(draw: random.Random, words: Sequence[str]) -> list[str]:
    """Misspell the longest word, where a reader would still know it."""
    longest = max(range(len(words)), key=lambda n: len(words[n]))
    return [
        misspell(draw, word) if n == longest else word for n, word in enumerate(words)
    ]


def misspell(draw: random.Random, word: str) -> str:
    """Return a word with one typo.

    A letter is left out, doubled, replaced or exchanged with the next one in scripts
    with letters. In others a mark is left out. Without a mark, a character is another.
    """
    if word.isascii() or "LATIN" in unicodedata.name(word[0], ""):
        return _mistype(draw, word, _LETTERS)
    if "CYRILLIC" in unicodedata.name(word[0], ""):
        return _mistype(draw, word, _CYRILLIC)
    if "HANGUL" in unicodedata.name(word[0], ""):
        return _without_final(draw, word)
    bare = unicodedata.normalize("NFD", word)
    marks = [n for n, c in enumerate(bare) if n and unicodedata.category(c) in _MARKS]
    if marks:
        cut = draw.choice(marks)
        return unicodedata.normalize("NFC", bare[:cut] + bare[cut + 1 :])
    at = draw.randrange(len(word))
    if "ARABIC" in unicodedata.name(word[0], ""):
        return word[:at] + word[at + 1 :]
    return word[:at] + chr(ord(word[at]) + 1) + word[at + 1 :]


def _mistype(draw: random.Random, word: str, letters: str) -> str:
    at = draw.randrange(1, max(2, len(word) - 1))
    before, here, after = word[:at], word[at : at + 1], word[at + 1 :]
    changed = [
        before + after,
        before + here + here + after,
        before + draw.choice(letters) + after,
        before + after[:1] + here + after[1:],
    ]
    different = [one for one in changed if one != word]
    return draw.choice(different)


def _without_final(draw: random.Random, word: str) -> str:
    """Change a syllable: leave out its final consonant, or change its vowel."""
    at = draw.randrange(len(word))
    code = ord(word[at]) - 0xAC00
    if not 0 <= code < 11_172:
        return word[:at] + word[at + 1 :]
    final = code % 28
    code = code - final if final else code - code % 588 + (code % 588 + 28) % 588
    return word[:at] + chr(0xAC00 + code) + word[at + 1 :]
