"""The baseline: BM25 over all fields, where any word may match."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import log
from typing import Final

from search.documents import RecordDocument
from search.query.nodes import AllOf, AnyOf, Filter, Kind, Node, Not, Query, words_of
from search.text.tags import normalize_tag
from search.tokens import tokenize
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
        for number, document in enumerate(documents):
            tokens = tokenize(f"{document.title}\n{document.text}")
            self._sizes.append(len(tokens))
            for token, count in Counter(tokens).items():
                self._postings[token].append((number, count))
        self._mean = sum(self._sizes) / max(1, len(self._sizes))

    def search(self, query: Query, limit: int) -> list[Address]:
        """Return the best documents; newer ones first among equals."""
        tokens = {token for words in words_of(query.where) for token in words.tokens}
        scores: Counter[int] = Counter()
        for token in tokens:
            for number, score in self._scores(token):
                scores[number] += score  # type: ignore[assignment]
        found = scores if tokens else dict.fromkeys(range(len(self._documents)), 0.0)
        kept = (
            (score, self._documents[number].sort_at, number)
            for number, score in found.items()
            if self._passes(number, query)
        )
        best = heapq.nlargest(limit, kept)
        return [self._documents[number].address for _, _, number in best]

    def _scores(self, token: str) -> Iterator[tuple[int, float]]:
        postings = self._postings.get(token, ())
        total, df = len(self._documents), len(postings)
        weight = log(1 + (total - df + 0.5) / (df + 0.5))
        for number, count in postings:
            size = 1 - _B + _B * self._sizes[number] / self._mean
            yield number, weight * count * (_K1 + 1) / (count + _K1 * size)

    def _passes(self, number: int, query: Query) -> bool:
        document = self._documents[number]
        if query.since is not None and document.sort_at < query.since:
            return False
        if query.until is not None and document.sort_at >= query.until:
            return False
        return document.likes >= query.min_likes and _matches(document, query.where)


def _matches(document: RecordDocument, node: Node) -> bool:
    """Return True if the filters hold; words only count inside of a `Not`."""
    if isinstance(node, Filter):
        return node.value in _values(document, node.kind)
    if isinstance(node, AllOf):
        return all(_matches(document, item) for item in node.items)
    if isinstance(node, AnyOf):
        return any(_matches(document, item) for item in node.items)
    if isinstance(node, Not):
        words = {token for w in words_of(node.item) for token in w.tokens}
        if words:
            return not words <= {*tokenize(f"{document.title}\n{document.text}")}
        return not _matches(document, node.item)
    return True


def _values(document: RecordDocument, kind: Kind) -> Sequence[str]:
    if kind is Kind.TAG:
        return [normalize_tag(tag) for tag in document.tags]
    if kind is Kind.LANG:
        return document.langs
    if kind is Kind.FEATURE:
        return document.features
    if kind is Kind.DOMAIN:
        return document.domains
    return (document.did,) if kind is Kind.AUTHOR else ()
