"""Estimates of how many documents match, from document frequencies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from search.engines.postgres.conditions import Conditions, lexeme_of
from search.engines.postgres.frequencies import RARE, Frequencies
from search.engines.postgres.reading import Reading
from search.engines.postgres.tsvector import AUTHOR, TIER
from search.query.nodes import AllOf, Filter, Node, Not, Words, words_of
from storage.records.stats import TIERS

_ADJACENT: Final = 0.2
"""Share of the documents with the rarest word of a phrase that hold the phrase."""
_PREFIX_WORDS: Final = 2_000
_TIERS: Final = [f"{TIER}{tier}" for tier, _ in enumerate(TIERS, 2)]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of documents that match, and of those in each tier."""

    rate: float
    read: float
    """Share of documents that the index finds; not all of them hold a phrase."""
    scanned: float
    """Share of documents in the lists of the index that must be read."""
    tiers: tuple[float, ...]
    """Share of documents in tier 1, 2, …"""


def estimate(
    reading: Reading, frequencies: Frequencies, conditions: Conditions
) -> Estimate:
    """Return estimates for the conditions of a query."""
    nodes, ids = conditions.nodes, conditions.ids
    wanted = set(_TIERS)
    for node in nodes:
        wanted.update(_lexemes(node, conditions))
    wanted.update(lexeme for some in conditions.lexemes for lexeme in some)
    authors = [f"{AUTHOR}{number}" for number in conditions.authors or ()]
    wanted.update(authors)
    found = frequencies.find(reading, wanted)
    total = max(1, reading.total)
    least = reading.total // RARE

    def rate_of(lexeme: str) -> float:
        return min(1.0, max(found[lexeme], least) / total)

    def rate(node: Node, adjacent: float) -> float:
        if isinstance(node, Words):
            rates = [rate_of(token) for token in node.tokens[:-1]]
            last = node.tokens[-1]
            rates.append(
                min(1.0, frequencies.find_prefix(reading, last) / total)
                if node.prefix
                else rate_of(last)
            )
            return min(rates) * (adjacent if len(rates) > 1 else 1.0)
        if isinstance(node, Filter):
            return rate_of(lexeme_of(node, ids))
        if isinstance(node, Not):
            return 1 - rate(node.item, adjacent)
        if isinstance(node, AllOf):
            product = 1.0
            for item in node.items:
                product *= rate(item, adjacent)
            return product
        none = 1.0
        for item in node.items:
            none *= 1 - rate(item, adjacent)
        return 1 - none

    product = 1.0
    for some in conditions.lexemes:
        product *= min(1.0, sum(map(rate_of, some)))
    if conditions.authors is not None:
        product *= min(1.0, sum(map(rate_of, authors)))
    read = {lexeme for node in nodes for lexeme in _lexemes(node, conditions, True)}
    read.update(authors, *conditions.lexemes)
    lists = sum(found[lexeme] for lexeme in read if lexeme not in _TIERS)
    tiers = (1.0, *(found[tier] / total for tier in _TIERS))
    everything = AllOf(nodes)
    return Estimate(
        product * rate(everything, _ADJACENT),
        product * rate(everything, 1.0),
        min(lists / total, 4.0),
        tiers,
    )


def _lexemes(
    node: Node, conditions: Conditions, only_read: bool = False
) -> Iterator[str]:
    """Yield the lexemes of a node; `only_read`: those whose lists are read whole.

    The index reads the lists of filters beside a word only at the places of the word.
    """
    if isinstance(node, Words):
        yield from node.tokens
    elif isinstance(node, Filter):
        yield lexeme_of(node, conditions.ids)
    elif isinstance(node, Not):
        yield from _lexemes(node.item, conditions, only_read)
    else:
        items = node.items
        if only_read and isinstance(node, AllOf):
            items = tuple(filter(_holds_words, items)) or items
        for item in items:
            yield from _lexemes(item, conditions, only_read)


def _holds_words(node: Node) -> bool:
    return next(words_of(node), None) is not None
