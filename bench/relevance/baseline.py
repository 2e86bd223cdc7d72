"""The baseline: BM25 over all fields, where any word may match."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import log
from typing import Final

from search.documents import RecordDocument
from search.query.nodes import AllOf, AnyOf, Node, Not, Query, Words, words_of
from search.terms import Terms, holds, read_terms
from storage.records.addresses import Address

_K1: Final = 1.2
_B: Final = 0.75


class Baseline:
    """BM25 with the constants of the literature; filters are exact."""

    name = "bm25"

    def __init__(self, documents: Sequence[RecordDocument]) -> None:
        self._documents = documents
        self._postings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._sizes: list[int] = []
        self._terms = [read_terms(document) for document in documents]
        for number, terms in enumerate(self._terms):
            tokens = [token for field in terms.fields.values() for token in field]
            self._sizes.append(len(tokens))
            for token, count in Counter(tokens).items():
                self._postings[token].append((number, count))
        self._mean = sum(self._sizes) / max(1, len(self._sizes))

    def search(self, query: Query, limit: int) -> list[Address]:
        """Return the best documents; newer ones first among equals."""
        tokens = {
            (token, words.prefix and place == len(words.tokens))
            for words in words_of(query.where)
            for place, token in enumerate(words.tokens, 1)
        }
        scores: Counter[int] = Counter()
        for token, prefix in tokens:
            for number, score in self._scores(token, prefix):
                scores[number] += score  # type: ignore[assignment]
        found = scores if tokens else dict.fromkeys(range(len(self._documents)), 0.0)
        kept = (
            (score, self._documents[number].sort_at, number)
            for number, score in found.items()
            if self._holds(number, query)
        )
        best = heapq.nlargest(limit, kept)
        return [self._documents[number].address for _, _, number in best]

    def _scores(self, token: str, prefix: bool) -> Iterator[tuple[int, float]]:
        postings = self._find_postings(token, prefix)
        total, df = len(self._documents), len(postings)
        weight = log(1 + (total - df + 0.5) / (df + 0.5))
        for number, count in postings:
            size = 1 - _B + _B * self._sizes[number] / self._mean
            yield number, weight * count * (_K1 + 1) / (count + _K1 * size)

    def _find_postings(self, token: str, prefix: bool) -> Sequence[tuple[int, int]]:
        if not prefix:
            return self._postings.get(token, ())
        # The last character of a script without spaces is the start of a pair.
        counts: Counter[int] = Counter()
        for known, postings in self._postings.items():
            if known.startswith(token):
                for number, count in postings:
                    counts[number] += count
        return [*counts.items()]

    def _holds(self, number: int, query: Query) -> bool:
        document = self._documents[number]
        if query.since is not None and document.sort_at < query.since:
            return False
        if query.until is not None and document.sort_at >= query.until:
            return False
        return document.likes >= query.min_likes and _passes(
            query.where, self._terms[number]
        )


def _passes(node: Node, terms: Terms) -> bool:
    """Return True if the filters hold; words only count inside of a `Not`."""
    if isinstance(node, Words):
        return True
    if isinstance(node, AllOf):
        return all(_passes(item, terms) for item in node.items)
    if isinstance(node, AnyOf):
        return any(_passes(item, terms) for item in node.items)
    if isinstance(node, Not):
        return not holds(node.item, terms)
    return holds(node, terms)
