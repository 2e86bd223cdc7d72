"""Documents as tsvectors: words with their field, and filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from search.documents import ActorDocument, RecordDocument
from search.engines.postgres.conditions import LEXEME_PREFIXES, POST
from search.engines.postgres.tsvector import (
    AUTHOR,
    BEGIN,
    COLLECTION,
    TIER,
    encode_tsvector,
)
from search.engines.spelling import NAME
from search.terms import FIELDS, read_terms
from search.text.languages import primary_language
from search.text.stems import document_stems
from search.text.tokens import tokenize
from storage.records.stats import PostStats, tiers_of

WEIGHTS = "ABCCD"
"""Weights of the fields."""
MAX_PREFIX = 3
"""Beginnings of account names up to this length are words of the index."""


def record_vector(document: RecordDocument) -> tuple[str, set[str]]:
    """Return the tsvector of a record, and its distinct lexemes."""
    address = document.address
    terms = read_terms(document)
    sections = [
        (terms.fields.get(name, ()), weight)
        for name, weight in zip(FIELDS, WEIGHTS, strict=True)
    ]
    lexemes = [
        LEXEME_PREFIXES[f.kind] + f.value
        for f in terms.filters
        if f.kind in LEXEME_PREFIXES
    ]
    lexemes.append(f"{AUTHOR}{address.actor}")
    if address.collection != POST:
        lexemes.append(f"{COLLECTION}{address.collection}")
    stats = PostStats(
        document.likes, document.reposts, document.replies, document.quote_count
    )
    lexemes += [f"{TIER}{tier}" for tier in tiers_of(stats.score)]
    words = {token for tokens, _ in sections for token in tokens}
    langs = [document.detected, *map(primary_language, document.langs)]
    own = chain.from_iterable(terms.fields.get(name, ()) for name in FIELDS[:2])
    lexemes += document_stems(own, langs)
    return encode_tsvector(sections, lexemes), words.union(lexemes)


def actor_vector(document: ActorDocument) -> tuple[str, set[str]]:
    """Return the tsvector of an account, and its lexemes among the known words."""
    handle, name = (
        tokenize(document.handle or ""),
        tokenize(document.display_name),
    )
    described = tokenize(document.description)
    filters = list(beginnings(BEGIN, [*handle, *name]))
    filters += [f"{TIER}{tier}" for tier in tiers_of(document.followers)]
    sections = [(handle, "A"), (name, "B"), (described, "D")]
    lexemes = {NAME + word for word in (*handle, *name, *described, *filters)}
    return encode_tsvector(sections, filters), {NAME, *lexemes}


def beginnings(prefix: str, words: Iterable[str]) -> Iterator[str]:
    """Yield the short beginnings of words."""
    for word in words:
        for size in range(1, min(len(word), MAX_PREFIX) + 1):
            yield prefix + word[:size]


def count_lexemes(found: Iterable[set[str]]) -> Counter[str]:
    """Return the number of documents of each lexeme."""
    counts: Counter[str] = Counter()
    for lexemes in found:
        counts.update(lexemes)
    return counts
