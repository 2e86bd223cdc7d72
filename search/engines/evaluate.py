"""Query trees checked against encoded documents.

Engines answer a wider question than the query where their language is too narrow; the
rest is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.engines.encoding import FIELDS, encode_token, encode_value
from search.query.nodes import AllOf, AnyOf, Filter, Node, Not, Words


def holds(node: Node, document: Mapping[str, Any]) -> bool:
    """Return True if an encoded document (`encode_record`) fulfills a condition."""
    if isinstance(node, Words):
        return any(
            _contains(document[field].split(), node) for field in ("title", "text")
        )
    if isinstance(node, Filter):
        found = document[FIELDS[node.kind]]
        value = encode_value(node.kind, node.value)
        return value == found if isinstance(found, str) else value in found
    if isinstance(node, Not):
        return not holds(node.item, document)
    if isinstance(node, AllOf):
        return all(holds(item, document) for item in node.items)
    assert isinstance(node, AnyOf)
    return any(holds(item, document) for item in node.items)


def _contains(tokens: list[str], words: Words) -> bool:
    sought = [encode_token(token) for token in words.tokens]
    if not sought:
        return True
    *first, last = sought
    for i in range(len(tokens) - len(first)):
        end = tokens[i + len(first)]
        if tokens[i : i + len(first)] == first and (
            end.startswith(last) if words.prefix else end == last
        ):
            return True
    return False
