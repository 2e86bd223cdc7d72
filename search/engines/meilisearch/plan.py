"""Query trees as searches of Meilisearch.

Words and phrases go into `q`, in quotes: without typos, prefixes or order. A tree with
OR becomes several searches, whose results are merged. Filters become filter
expressions. What neither can say exactly is checked against the documents found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from search.engines.encoding import (
    FIELDS,
    encode_token,
    encode_value,
    is_plain,
    micros,
    tier_of,
)
from search.query.nodes import (
    AllOf,
    AnyOf,
    Filter,
    Kind,
    Node,
    Not,
    Query,
    Words,
    words_of,
)

MAX_PARTS: Final = 16
"""Searches for one query; wider trees are checked against documents."""
MAX_TERMS: Final = 10
"""Words and phrases of `q` that Meilisearch reads; it ignores further ones."""
_MAX_TOKENS: Final = 400
"""Tokens in `q`: Meilisearch reads 1,000, spaces and quotes included."""
_EXACT_PHRASE: Final = 2
"""Longer phrases are found by pairs of words, and need a check."""
_MAX_LEFT_OUT: Final = 5
_ALL: Final = "id EXISTS"
_NONE: Final = "id NOT EXISTS"


@dataclass(frozen=True, slots=True)
class Part:
    """One search: conditions that must all hold."""

    required: tuple[Words, ...] = ()
    excluded: tuple[Words, ...] = ()
    filters: tuple[str, ...] = ()

    def joined(self, other: Part) -> Part:
        """Return a search for both."""
        return Part(
            tuple(dict.fromkeys((*self.required, *other.required))),
            tuple(dict.fromkeys((*self.excluded, *other.excluded))),
            (*self.filters, *other.filters),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Searches whose merged results hold every match.

    With `check`, each result is compared with the query tree.
    """

    parts: tuple[Part, ...]
    check: bool = False


@dataclass(slots=True)
class _Planner:
    check: bool = False

    def parts(self, node: Node, negated: bool = False) -> list[Part]:
        """Return the searches that together find the node, or its negation."""
        if isinstance(node, Not):
            return self.parts(node.item, not negated)
        if not any(True for _ in _all_words(node)):
            return _filter_parts(node, negated)
        if isinstance(node, Words):
            return [self._words(node, negated)]
        assert isinstance(node, AllOf | AnyOf)
        found = [self.parts(item, negated) for item in node.items]
        if isinstance(node, AllOf) != negated:
            return self._all(found)
        return self._any(found)

    def _words(self, words: Words, negated: bool) -> Part:
        if not words.tokens:
            return Part(filters=(_NONE,)) if negated else Part()
        exact = not words.prefix and len(words.tokens) <= _EXACT_PHRASE
        self.check = self.check or not exact
        if negated:
            return Part(excluded=(words,)) if exact else Part()
        return Part(required=(words,))

    def _all(self, found: list[list[Part]]) -> list[Part]:
        # Alternatives multiply: those that would be too many are checked instead.
        result = [Part()]
        for parts in sorted(found, key=len):
            if len(result) * len(parts) > MAX_PARTS:
                self.check = True
            else:
                result = [a.joined(b) for a, b in product(result, parts)]
        return result

    def _any(self, found: list[list[Part]]) -> list[Part]:
        result = list(dict.fromkeys(part for parts in found for part in parts))
        if len(result) > MAX_PARTS:
            self.check = True
            return [Part()]
        return result


def plan(node: Node) -> Plan:
    """Return the searches for a query tree."""
    planner = _Planner()
    parts = [_bounded(part, planner) for part in planner.parts(node)]
    return Plan(tuple(dict.fromkeys(parts)), planner.check)


def _bounded(part: Part, planner: _Planner) -> Part:
    """Keep the terms that `q` may hold, the longest: those are the rarest."""
    kept: list[Words] = []
    room = _MAX_TOKENS
    for words in sorted(part.required, key=_length, reverse=True):
        if len(kept) < MAX_TERMS and len(words.tokens) <= room:
            kept.append(words)
            room -= len(words.tokens)
    excluded = [w for w in part.excluded if len(w.tokens) * 2 <= _MAX_TOKENS]
    # One prefix is possible, at the end.
    prefixes = [w for w in kept if w.prefix and len(w.tokens) == 1]
    kept = [w for w in kept if w not in prefixes[1:]]
    if len(kept) < len(part.required) or len(excluded) < len(part.excluded):
        planner.check = True
    ordered = tuple(w for w in part.required if w in kept)
    return Part(ordered, tuple(excluded), part.filters)


def _length(words: Words) -> int:
    return sum(len(token) for token in words.tokens)


def _all_words(node: Node) -> Iterable[Words]:
    return words_of(_without_not(node))


def _without_not(node: Node) -> Node:
    if isinstance(node, Not):
        return _without_not(node.item)
    if isinstance(node, AllOf | AnyOf):
        return AllOf(tuple(_without_not(item) for item in node.items))
    return node


def _filter_parts(node: Node, negated: bool) -> list[Part]:
    if isinstance(node, AllOf) and not negated:
        return [Part(filters=tuple(filter_text(item) for item in node.items))]
    if isinstance(node, AnyOf) and negated:
        return [Part(filters=tuple(filter_text(Not(item)) for item in node.items))]
    text = filter_text(Not(node) if negated else node)
    return [] if text == _NONE else [Part(filters=(text,))]


def filter_text(node: Node) -> str:
    """Return the filter expression of a tree without words."""
    if isinstance(node, Filter):
        return f"{FIELDS[node.kind]} = {quoted(encode_value(node.kind, node.value))}"
    if isinstance(node, Not):
        return f"NOT ({filter_text(node.item)})"
    if isinstance(node, AllOf):
        texts = [filter_text(item) for item in node.items]
        return f"({' AND '.join(texts)})" if texts else _ALL
    assert isinstance(node, AnyOf)
    if not node.items:
        return _NONE
    sets: dict[Kind, list[str]] = {}
    texts = []
    for item in node.items:
        if isinstance(item, Filter):
            value = quoted(encode_value(item.kind, item.value))
            sets.setdefault(item.kind, []).append(value)
        else:
            texts.append(filter_text(item))
    texts += [
        f"{FIELDS[kind]} IN [{', '.join(dict.fromkeys(values))}]"
        for kind, values in sets.items()
    ]
    return f"({' OR '.join(texts)})"


def quoted(value: str) -> str:
    """Return a filter value in quotes; encoded values hold no quotes."""
    return json.dumps(value)


def range_filters(query: Query, collections: Sequence[int]) -> list[str]:
    """Return the filters of collections, times and likes."""
    texts = [f"collection IN [{', '.join(str(int(c)) for c in collections)}]"]
    if query.since is not None:
        texts.append(f"ts >= {micros(query.since)}")
    if query.until is not None:
        texts.append(f"ts < {micros(query.until)}")
    if query.min_likes > 0:
        # A superset: the score counts likes and more, as of the last write.
        texts.append(f"tier >= {max(0, tier_of(query.min_likes) - 1)}")
    return texts


def query_text(part: Part) -> str:
    """Return `q` of an exact search, excluded words first.

    Meilisearch stops reading after its tenth term, and a prefix must be the last.
    """
    terms = [f'-"{_joined(words.tokens)}"' for words in part.excluded]
    last = ""
    for words in part.required:
        if not words.prefix:
            terms.append(f'"{_joined(words.tokens)}"')
            continue
        *first, token = words.tokens
        if first:
            terms.append(f'"{_joined(first)}"')
        elif not last:
            last = encode_token(token)
    return " ".join([*terms, last] if last else terms)


def loose_texts(part: Part, left_out: bool) -> list[str]:
    """Return texts that also find words with typos.

    With `left_out`, each text lacks another one of three or more words.
    """
    plain = [w for w in part.required if _may_differ(w)]
    fixed = [w for w in part.required if not _may_differ(w)]
    start = [f'-"{_joined(words.tokens)}"' for words in part.excluded]
    start += [f'"{_joined(words.tokens)}"' for words in fixed]
    words = [encode_token(w.tokens[0]) for w in plain]
    if not left_out:
        return [" ".join([*start, *words])] if words else []
    if len(words) + len(fixed) < 3 or len(words) > _MAX_LEFT_OUT:
        return []
    return [" ".join([*start, *words[:i], *words[i + 1 :]]) for i in range(len(words))]


def _may_differ(words: Words) -> bool:
    return len(words.tokens) == 1 and is_plain(encode_token(words.tokens[0]))


def _joined(tokens: Iterable[str]) -> str:
    return " ".join(encode_token(token) for token in tokens)
