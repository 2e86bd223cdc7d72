"""Records that match a query less than whole, after those that match it.

The steps are exact matches, words with the same stems, words that begin like the last
one, misspelt words mended, and all words except one. A later step begins only if the
first page is not full, and leaves out what the steps before it found.

In the order of relevance, one of two words is enough if nothing else is found. In a
script without spaces, one character of a long word may then be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final, Protocol

from search.engines.contract import RecordHit, RecordPage
from search.query.nodes import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Filter,
    Kind,
    Node,
    Not,
    Query,
    Words,
    all_of,
    any_of,
    filters,
    required,
)
from search.text.languages import UNKNOWN
from search.text.stems import query_stems, stem_lexeme
from search.text.words import is_unspaced

_SHORTEST_PREFIX: Final = 3
_MOST_FEWER: Final = 6
"""Longer queries are not searched with a word less."""
_SHORTEST_RUN: Final = 3
_LONGEST_RUN: Final = 12
_LEAST_PAIRS: Final = 2
Mended = tuple[tuple[str, str], ...]


class Step(IntEnum):
    """The steps, in order."""

    EXACT = 0
    STEMMED = 1
    PREFIX = 2
    MENDED = 3
    FEWER = 4


class Rung(Protocol):
    """A search of one step."""

    def __call__(
        self, query: Query, limit: int, after: list[Any] | None
    ) -> list[RecordHit]:
        """Return hits of a query; fewer than `limit` are the last."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The steps of an engine. `mend` returns better spellings of single words."""

    search: Rung
    mend: Callable[[Sequence[str]], Mended]
    is_common: Callable[[str], bool] = lambda _: False
    """Return True for a word that nobody types as the beginning of another."""

    def climb(
        self, query: Query, limit: int, after: list[Any] | None = None
    ) -> RecordPage:
        """Return a page; `total` is exact if it is the first and the last.

        A keyset holds the step, 1 if later steps may follow, mended words, and the
        keyset of the engine.
        """
        first, is_open, mended, rest = _read_keyset(after)
        found: list[tuple[int, RecordHit]] = []
        last = first
        for step in (s for s in Step if s >= first):
            if len(found) >= limit or (step > first and not is_open):
                break
            is_later = bool(found) or after is not None
            if step is Step.FEWER > first and is_later and _is_short(query):
                break
            last = step
            if step is Step.MENDED and step > first:
                mended = self.mend(mendable_words(query))
            narrowed = narrow(query, step, mended, self.is_common)
            if narrowed is not None:
                hits = self.search(narrowed, limit - len(found), rest)
                found += [(step, hit) for hit in hits]
            rest = None
        opened = first if after is not None and is_open else -1
        return RecordPage(
            [
                RecordHit(
                    hit.address,
                    [
                        int(step),
                        int(step < last or step == opened),
                        [[*pair] for pair in mended],
                        *hit.keyset,
                    ],
                )
                for step, hit in found
            ],
            len(found) if after is None and len(found) < limit else None,
            mended if any(step == Step.MENDED for step, _ in found) else (),
        )


def _read_keyset(
    after: list[Any] | None,
) -> tuple[int, bool, Mended, list[Any] | None]:
    if after is None:
        return Step.EXACT, True, (), None
    step, is_open, mended, *rest = after
    return step, bool(is_open), tuple((a, b) for a, b in mended), rest


def mendable_words(query: Query) -> list[str]:
    """Return the single words of which every match holds one."""
    return [
        part.tokens[0]
        for part in required(query.where)
        if isinstance(part, Words) and len(part.tokens) == 1 and not part.prefix
    ]


def narrow(
    query: Query,
    step: int,
    mended: Mended,
    is_common: Callable[[str], bool] = lambda _: False,
) -> Query | None:
    """Return what a step searches, without what the steps before it found.

    None if it would find nothing more.
    """
    parts = required(query.where)
    begun = _begin_last(parts, is_common)
    if step == Step.EXACT:
        return query
    stemmed = _with_stems(parts)
    if step == Step.STEMMED:
        if stemmed == [*parts]:
            return None
        return replace(query, where=all_of(*stemmed, Not(all_of(*parts))))
    not_stemmed = [] if stemmed == [*parts] else [Not(all_of(*stemmed))]
    if step == Step.PREFIX:
        rest = [Not(a) for a, b in zip(parts, begun, strict=True) if a != b]
        where = all_of(*begun, *rest, *not_stemmed)
        return replace(query, where=where) if rest else None
    better: dict[Node, Node] = {Words((a,)): Words((b,)) for a, b in mended}
    corrected = tuple(better.get(part, part) for part in parts)
    changed = [i for i, part in enumerate(parts) if part != corrected[i]]
    if step == Step.MENDED:
        if not changed:
            return None
        before = Not(all_of(*(begun[i] for i in changed)))
        return replace(query, where=all_of(*corrected, before, *not_stemmed))
    words = [i for i, part in enumerate(parts) if _is_text(part)]
    kept = [part for i, part in enumerate(parts) if i not in words]
    if len(words) == 1:
        near = _with_one_wrong(parts[words[0]])
        return replace(query, where=all_of(*kept, near)) if near else None
    least = 2 if query.sort == "top" else 3
    if not least <= len(words) <= _MOST_FEWER:
        return None
    fewer = _all_but_one([stemmed[i] for i in words])
    earlier = [Not(AllOf(tuple(begun[i] for i in words))), *not_stemmed]
    if changed:
        earlier.append(Not(AllOf(tuple(corrected[i] for i in words))))
    return replace(query, where=all_of(*kept, fewer, *earlier))


def _all_but_one(parts: Sequence[Node]) -> Node:
    """Return the parts of which one may be missing.

    By halves, so that a part stands in it a few times, and not once for each other.
    """
    if len(parts) == 1:
        return EVERYTHING
    half = len(parts) // 2
    first, last = parts[:half], parts[half:]
    return any_of(
        all_of(*first, _all_but_one(last)), all_of(_all_but_one(first), *last)
    )


def _is_short(query: Query) -> bool:
    """Return True if less than the query is searched only if nothing else is found."""
    return sum(map(_is_text, required(query.where))) <= 2


def _with_one_wrong(part: Node) -> Node | None:
    """Return a run of a script without spaces in which one character may be wrong."""
    if not isinstance(part, Words) or not is_unspaced(part.tokens[0]):
        return None
    pairs = part.tokens
    if not _SHORTEST_RUN <= len(pairs) <= _LONGEST_RUN:
        return None
    # A wrong character is in two pairs, the first and the last one in one.
    around = ((pairs[: max(0, i - 1)], pairs[i + 1 :]) for i in range(len(pairs) + 1))
    return any_of(
        *(
            all_of(*(Words(side) for side in sides if side))
            for sides in around
            if sum(map(len, sides)) >= _LEAST_PAIRS
        )
    )


def _with_stems(parts: Sequence[Node]) -> list[Node]:
    """Return the parts with single words as any word of the same stem."""
    langs = [
        item.value
        for part in parts
        for item in (part.items if isinstance(part, AnyOf) else (part,))
        if isinstance(item, Filter) and item.kind is Kind.LANG
    ]
    return [_with_stem(part, langs) for part in parts]


def _with_stem(part: Node, langs: Sequence[str]) -> Node:
    if not isinstance(part, Words) or len(part.tokens) != 1 or part.prefix:
        return part
    word = part.tokens[0]
    plain: dict[str, list[str]] = {}
    forms: list[Node] = [part]
    for lang, stem in query_stems(word, langs).items():
        forms.append(Words((stem_lexeme(lang, stem),)))
        if stem != word:
            plain.setdefault(stem, []).append(lang)
    # A document has no mark for a word that is its own stem.
    for stem, its_langs in plain.items():
        allowed = any_of(*filters(Kind.LANG, (*its_langs, UNKNOWN)))
        forms.append(all_of(Words((stem,)), allowed))
    return any_of(*forms)


def _begin_last(parts: Sequence[Node], is_common: Callable[[str], bool]) -> list[Node]:
    """Return the parts with the last single word as the beginning of a word."""
    begun = [*parts]
    for i in reversed(range(len(parts))):
        part = parts[i]
        if isinstance(part, Words):
            word = part.tokens[-1]
            if (
                len(part.tokens) == 1
                and len(word) >= _SHORTEST_PREFIX
                and not is_common(word)
            ):
                begun[i] = Words(part.tokens, prefix=True)
            break
    return begun


def _is_text(part: Node) -> bool:
    if isinstance(part, AnyOf):
        return bool(part.items) and all(isinstance(p, Words) for p in part.items)
    return isinstance(part, Words)
