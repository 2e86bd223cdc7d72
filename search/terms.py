"""The terms of a document: tokens of each field, and its values as filters.

Engines index them, saved searches and explanations compare them with a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from search.documents import RecordDocument
from search.query.nodes import AllOf, AnyOf, Filter, Kind, Node, Not, Words, record_key
from search.text.languages import primary_language
from search.text.tags import normalize_tag
from search.text.tokens import tokenize
from storage.records.web_urls import normalize_url

FIELDS: Final = ("title", "text", "alt", "card", "quoted")
"""Fields of a document that hold words, weightiest first."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The searchable terms of one record. No phrase spans two fields."""

    fields: dict[str, Sequence[str]]
    filters: frozenset[Filter]


def read_terms(document: RecordDocument) -> Terms:
    """Return the terms of a record, which are read once."""
    known: Terms | None = document._terms
    if known is not None:
        return known
    texts = {name: getattr(document, name) for name in FIELDS}
    terms = Terms(
        {name: tokenize(text) for name, text in texts.items() if text},
        frozenset(_filters(document)),
    )
    object.__setattr__(document, "_terms", terms)
    return terms


def _filters(document: RecordDocument) -> list[Filter]:
    values: dict[Kind, Sequence[str | None]] = {
        Kind.AUTHOR: [document.did],
        Kind.MENTION: document.mentions,
        Kind.DOMAIN: [name for d in document.domains for name in parents(d)],
        Kind.URL: [normalize_url(url) for url in document.urls],
        Kind.TAG: [normalize_tag(tag) for tag in document.tags],
        Kind.LANG: [*map(primary_language, document.langs), document.detected],
        Kind.FEATURE: document.features,
        Kind.PARENT: [document.reply_parent],
        Kind.ROOT: [document.reply_root],
        Kind.QUOTE: document.quotes,
        Kind.RECORD: [record_key(document.address)],
    }
    return [
        Filter(kind, value)
        for kind, found in values.items()
        for value in found
        if value
    ]


def parents(domain: str) -> list[str]:
    """Return a domain and those above it, without the top level.

    So `domain:example.com` finds links to www.example.com too.
    """
    labels = domain.split(".")
    return [".".join(labels[i:]) for i in range(max(1, len(labels) - 1))]


def holds(node: Node, terms: Terms) -> bool:
    """Return True if a document with these terms fulfills a condition."""
    if isinstance(node, Words):
        return bool(fields_with(node, terms))
    if isinstance(node, Filter):
        return node in terms.filters
    if isinstance(node, Not):
        return not holds(node.item, terms)
    if isinstance(node, AllOf):
        return all(holds(item, terms) for item in node.items)
    assert isinstance(node, AnyOf)
    return any(holds(item, terms) for item in node.items)


def fields_with(words: Words, terms: Terms) -> list[str]:
    """Return the names of the fields that hold these words in order."""
    return [name for name, tokens in terms.fields.items() if _occurs(words, tokens)]


def _occurs(words: Words, tokens: Sequence[str]) -> bool:
    *first, last = words.tokens
    length = len(first)
    for i in range(len(tokens) - length):
        end = tokens[i + length]
        if (end.startswith(last) if words.prefix else end == last) and (
            not first or [*tokens[i : i + length]] == first
        ):
            return True
    return False
