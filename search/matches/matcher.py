"""Matching of one document with many queries.

A query is compiled once, and listed under its rarest required terms: a document only
checks the queries that are listed under one of its own terms. The results are those of
`search.terms.holds`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from search.documents import RecordDocument
from search.query.nodes import AllOf, AnyOf, Filter, Kind, Node, Not, Query, Words
from search.terms import Terms, fields_with, read_terms

Term = str | Filter
"""A token, the start of tokens (behind `_START`), or a filter."""
_START: Final = "\0"
_BROAD: Final = frozenset({Kind.LANG, Kind.FEATURE})
"""Kinds that many documents have: no query is listed under one of these."""
_FIRST_SORT: Final = 500
_MOST_SORT: Final = 50_000
"""Documents after which queries are listed anew, by the terms seen until then."""
_SORTED_AT_ONCE: Final = 50
"""Queries that are listed anew with each document, so that none waits for all."""

_MOST_COUNTS: Final = 500_000


class Seen:
    """A document as conditions see it."""

    __slots__ = ("document", "terms", "tokens")

    def __init__(self, document: RecordDocument, terms: Terms | None = None) -> None:
        self.document = document
        self.terms = terms or read_terms(document)
        self.tokens = frozenset(chain.from_iterable(self.terms.fields.values()))


Condition = Callable[[Seen], bool]


@dataclass(slots=True, eq=False)
class _Entry:
    number: int
    query: Query
    collections: frozenset[str]
    holds: Condition
    terms: tuple[Term, ...] | None = field(default=None)
    """Terms under which it is listed, None for all documents."""


class Matcher:
    """Compiled queries by number."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._by_term: dict[Term, dict[int, _Entry]] = {}
        self._always: dict[int, _Entry] = {}
        self._start_lengths: Counter[int] = Counter()
        self._vocabulary: Counter[Term] = Counter()
        self._counts: Counter[Term] = Counter()
        self._documents = 0
        self._next_sort = _FIRST_SORT
        self._unsorted: list[int] = []

    def __len__(self) -> int:
        return len(self._entries)

    def put(
        self,
        number: int,
        query: Query,
        collections: Iterable[str],
        also: Condition | None = None,
    ) -> None:
        """Add or replace a query; its places must be resolved, and it has no likes.

        `also` is another condition of a match.
        """
        self.remove(number)
        holds = compile_query(query)
        if also is not None:
            holds = _both(holds, also)
        entry = _Entry(number, query, frozenset(collections), holds)
        self._entries[number] = entry
        self._vocabulary.update(terms_in(query.where))
        self._list(entry)

    def remove(self, number: int) -> None:
        """Forget a query, if it is known."""
        entry = self._entries.pop(number, None)
        if entry is not None:
            self._unlist(entry)
            for term in terms_in(entry.query.where):
                self._vocabulary[term] -= 1
                if not self._vocabulary[term]:
                    del self._vocabulary[term]

    def match(self, document: RecordDocument, terms: Terms | None = None) -> list[int]:
        """Return the numbers of the queries that find this document, sorted."""
        if not self._entries:
            return []
        seen = Seen(document, terms)
        found = {e.number for e in self._candidates(seen) if _is_match(e, seen)}
        self._documents += 1
        if self._documents >= self._next_sort:
            self._begin_sort()
        self._sort_some()
        return sorted(found)

    def _candidates(self, seen: Seen) -> Iterator[_Entry]:
        yield from self._always.values()
        for term in self._terms_of(seen):
            self._counts[term] += 1
            listed = self._by_term.get(term)
            if listed is not None:
                yield from listed.values()

    def _terms_of(self, seen: Seen) -> Iterator[Term]:
        known = self._vocabulary.keys()
        yield from seen.tokens & known
        yield from seen.terms.filters & known
        if self._start_lengths:
            starts = {
                _START + token[:length]
                for token in seen.tokens
                for length in self._start_lengths
                if len(token) >= length
            }
            yield from starts & self._by_term.keys()

    def _begin_sort(self) -> None:
        """Begin to list queries under rarer terms: more documents are known now."""
        if len(self._counts) > _MOST_COUNTS:
            self._counts = Counter({t: self._counts[t] for t in self._vocabulary})
        self._unsorted = [*self._entries]
        self._next_sort = self._documents + min(self._documents, _MOST_SORT)

    def _sort_some(self) -> None:
        for number in self._unsorted[-_SORTED_AT_ONCE:]:
            entry = self._entries.get(number)
            if entry is not None:
                self._unlist(entry)
                self._list(entry)
        del self._unsorted[-_SORTED_AT_ONCE:]

    def _list(self, entry: _Entry) -> None:
        terms = rarest_terms(entry.query.where, self._counts.__getitem__)
        entry.terms = terms
        if terms is None:
            self._always[entry.number] = entry
            return
        for term in terms:
            self._by_term.setdefault(term, {})[entry.number] = entry
            if isinstance(term, str) and term[0] == _START:
                self._start_lengths[len(term) - 1] += 1

    def _unlist(self, entry: _Entry) -> None:
        if entry.terms is None:
            self._always.pop(entry.number, None)
            return
        for term in entry.terms:
            listed = self._by_term[term]
            del listed[entry.number]
            if not listed:
                del self._by_term[term]
            if isinstance(term, str) and term[0] == _START:
                length = len(term) - 1
                self._start_lengths[length] -= 1
                if not self._start_lengths[length]:
                    del self._start_lengths[length]


def _both(first: Condition, second: Condition) -> Condition:
    return lambda seen: first(seen) and second(seen)


def _is_match(entry: _Entry, seen: Seen) -> bool:
    return seen.document.collection in entry.collections and entry.holds(seen)


def terms_in(node: Node) -> frozenset[Term]:
    """Return the tokens and filters that a match may hold."""
    if isinstance(node, Words):
        return frozenset(node.tokens)
    if isinstance(node, Filter):
        return frozenset((node,))
    if isinstance(node, Not):
        return frozenset()
    return frozenset(chain.from_iterable(map(terms_in, node.items)))


def is_listed(query: Query) -> bool:
    """Return True if a match must hold a term that few documents have."""
    return rarest_terms(query.where, lambda _: 0) is not None


def rarest_terms(node: Node, count: Callable[[Term], int]) -> tuple[Term, ...] | None:
    """Return terms of which every match has one, the least frequent ones.

    None if there are none, as for a query of negations.
    """
    if isinstance(node, Words):
        return (_rarest_token(node, count),)
    if isinstance(node, Filter):
        return None if node.kind in _BROAD else (node,)
    if isinstance(node, Not):
        return None
    found = [rarest_terms(item, count) for item in node.items]
    if isinstance(node, AllOf):
        usable = [terms for terms in found if terms is not None]
        return min(usable, key=lambda t: _cost(t, count)) if usable else None
    assert isinstance(node, AnyOf)
    if None in found:
        return None
    return tuple(dict.fromkeys(term for terms in found for term in terms or ()))


def _cost(terms: tuple[Term, ...], count: Callable[[Term], int]) -> tuple[int, int]:
    """Return the order of alternatives: seen often, and short words first."""
    shortest = min((len(t) if isinstance(t, str) else 12 for t in terms), default=99)
    return sum(map(count, terms)), -shortest


def _rarest_token(words: Words, count: Callable[[Term], int]) -> str:
    whole = words.tokens[:-1] if words.prefix else words.tokens
    terms = list(whole) if whole else [_START + words.tokens[-1]]
    return min(terms, key=lambda t: _cost((t,), count))


def compile_query(query: Query) -> Condition:
    """Return a query as one function of a document."""
    where = compile_node(query.where)
    since, until, likes = query.since, query.until, query.min_likes
    if since is None and until is None and not likes:
        return where

    def holds(seen: Seen) -> bool:
        at = seen.document.sort_at
        return (
            (since is None or at >= since)
            and (until is None or at < until)
            and seen.document.likes >= likes
            and where(seen)
        )

    return holds


def compile_node(node: Node) -> Condition:
    """Return a condition as a function of a document."""
    if isinstance(node, Words):
        return _compile_words(node)
    if isinstance(node, Filter):
        return lambda seen: node in seen.terms.filters
    if isinstance(node, Not):
        inner = compile_node(node.item)
        return lambda seen: not inner(seen)
    items = [compile_node(item) for item in node.items]
    if isinstance(node, AllOf):
        return lambda seen: all(item(seen) for item in items)
    assert isinstance(node, AnyOf)
    return lambda seen: any(item(seen) for item in items)


def _compile_words(words: Words) -> Condition:
    *first, last = words.tokens
    if not first and not words.prefix:
        return lambda seen: last in seen.tokens
    whole: Set[str] = frozenset(first if words.prefix else words.tokens)

    def holds(seen: Seen) -> bool:
        return whole <= seen.tokens and bool(fields_with(words, seen.terms))

    return holds
