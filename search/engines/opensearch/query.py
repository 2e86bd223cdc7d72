"""Query trees in the query language of OpenSearch, and the template of its indexes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from search.engines.encoding import (
    FIELDS,
    encode_token,
    encode_value,
    is_plain,
    micros,
    tier_of,
)
from search.query.nodes import AllOf, AnyOf, Filter, Kind, Node, Not, Query, Words
from search.terms import FIELDS as TEXT_FIELDS

Clause = dict[str, Any]
_WEIGHTS: Final = ("title^3", "text^2", "alt", "card", "quoted^0.5")
_KEYWORD: Final = {"type": "keyword"}
_TEXT: Final = {"type": "text", "analyzer": "whitespace"}
_LONG: Final = {"type": "long"}
RECORD_MAPPINGS: Final[dict[str, Any]] = {
    "dynamic": "strict",
    "properties": {
        **dict.fromkeys(FIELDS.values(), _KEYWORD),
        **dict.fromkeys(TEXT_FIELDS, _TEXT),
        **dict.fromkeys(("actor", "collection", "ts", "tier", "score"), _LONG),
    },
}
ACTOR_MAPPINGS: Final[dict[str, Any]] = {
    "dynamic": "strict",
    "properties": {
        **dict.fromkeys(("id", "handle", "names", "words"), _KEYWORD),
        "text": _TEXT,
        **dict.fromkeys(("actor", "followers"), _LONG),
    },
}


def template(pattern: str, mappings: Clause) -> Clause:
    """Return the index template of one kind of indexes."""
    return {
        "index_patterns": [pattern],
        "priority": 100,
        "template": {
            "settings": {"index": {"refresh_interval": "1s"}},
            "mappings": mappings,
        },
    }


def conditions(query: Query, collections: Sequence[int]) -> list[Clause]:
    """Return the conditions of a query as filters, without scores."""
    found: list[Clause] = [{"terms": {"collection": [int(c) for c in collections]}}]
    times: Clause = {}
    if query.since is not None:
        times["gte"] = micros(query.since)
    if query.until is not None:
        times["lt"] = micros(query.until)
    if times:
        found.append({"range": {"ts": times}})
    if query.min_likes > 0:
        # A superset, as of the last write; likes of now are checked afterwards.
        least = max(0, tier_of(query.min_likes) - 1)
        found.append({"range": {"tier": {"gte": least}}})
    return [*found, clause_of(query.where)]


def clause_of(node: Node) -> Clause:
    """Return a query tree as a clause."""
    if isinstance(node, Words):
        return _words(node)
    if isinstance(node, Filter):
        return {"term": {FIELDS[node.kind]: encode_value(node.kind, node.value)}}
    if isinstance(node, Not):
        return {"bool": {"must_not": [clause_of(node.item)]}}
    if isinstance(node, AllOf):
        if not node.items:
            return {"match_all": {}}
        return {"bool": {"filter": [clause_of(item) for item in node.items]}}
    if not node.items:
        return {"match_none": {}}
    return _either(_grouped(node))


def _grouped(node: AnyOf) -> list[Clause]:
    sets: dict[Kind, list[str]] = {}
    clauses: list[Clause] = []
    for item in node.items:
        if isinstance(item, Filter):
            value = encode_value(item.kind, item.value)
            sets.setdefault(item.kind, []).append(value)
        else:
            clauses.append(clause_of(item))
    clauses += [{"terms": {FIELDS[kind]: values}} for kind, values in sets.items()]
    return clauses


def _either(clauses: list[Clause]) -> Clause:
    return {"bool": {"should": clauses, "minimum_should_match": 1}}


def _words(words: Words) -> Clause:
    tokens = [encode_token(token) for token in words.tokens]
    if not tokens:
        return {"match_all": {}}
    if not words.prefix:
        return _either(
            [{"match_phrase": {name: " ".join(tokens)}} for name in TEXT_FIELDS]
        )
    return _either([_begun(name, tokens) for name in TEXT_FIELDS])


def _begun(name: str, tokens: list[str]) -> Clause:
    *first, last = tokens
    if not first:
        return {"prefix": {name: last}}
    spans: list[Clause] = [{"span_term": {name: token}} for token in first]
    spans.append({"span_multi": {"match": {"prefix": {name: last}}}})
    return {"span_near": {"clauses": spans, "slop": 0, "in_order": True}}


def near_clause(node: Node, least: int) -> Clause | None:
    """Return a clause for matches with typos, of which `least` words must be there.

    None if the tree is not a list of words, phrases and filters.
    """
    items = node.items if isinstance(node, AllOf) else (node,)
    words = [item for item in items if isinstance(item, Words) and _may_differ(item)]
    others = [item for item in items if item not in words]
    if not words or len(words) < least:
        return None
    return {
        "bool": {
            "filter": [clause_of(item) for item in others],
            "should": [_fuzzy(item.tokens[0]) for item in words],
            "minimum_should_match": least,
        }
    }


def near_words(node: Node) -> int:
    """Return how many words of a tree may differ from those of a match."""
    items = node.items if isinstance(node, AllOf) else (node,)
    return sum(isinstance(item, Words) and _may_differ(item) for item in items)


def _may_differ(words: Words) -> bool:
    plain = len(words.tokens) == 1 and is_plain(encode_token(words.tokens[0]))
    return plain and not words.prefix


def _fuzzy(token: str) -> Clause:
    return {
        "multi_match": {
            "query": encode_token(token),
            "fields": [*_WEIGHTS],
            "fuzziness": "AUTO:4,8",
        }
    }
