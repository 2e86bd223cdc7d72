"""Query trees as SQL conditions on rows with an actor, a time and a tsvector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from search.engines.tsvector import (
    DOMAIN,
    FEATURE,
    LANG,
    MENTION,
    PARENT,
    QUOTE,
    ROOT,
    TAG,
    URL,
    any_of,
    encode_clause,
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
    record_of,
    required,
)
from storage.postgres.arrays import int_columns

LEXEME_PREFIXES: Final = {
    Kind.TAG: TAG,
    Kind.MENTION: MENTION,
    Kind.DOMAIN: DOMAIN,
    Kind.URL: URL,
    Kind.LANG: LANG,
    Kind.FEATURE: FEATURE,
    Kind.PARENT: PARENT,
    Kind.ROOT: ROOT,
    Kind.QUOTE: QUOTE,
}
Condition = tuple[str, list[Any]]


def find_conditions(
    query: Query, collections: Sequence[int]
) -> tuple[list[str], list[Any]]:
    """Return SQL conditions on `d`, to be joined by AND, and their values."""
    where, values = ["d.collection = ANY(%s)"], list[Any]([[*collections]])
    parts = required(query.where)
    lexical = tuple(part for part in parts if is_lexical(part))
    rows = [part for part in parts if not is_lexical(part)]
    for node in ([AllOf(lexical)] if lexical else []) + rows:
        text, given = node_condition(node)
        where.append(text)
        values += given
    for moment, comparison in ((query.since, ">="), (query.until, "<")):
        if moment is not None:
            where.append(f"d.ts {comparison} %s")
            values.append(moment)
    if query.min_likes:
        where.append(
            "EXISTS (SELECT FROM post_stats s WHERE s.actor = d.actor"
            " AND s.rkey = d.rkey AND s.likes >= %s)"
        )
        values.append(query.min_likes)
    return where, values


def is_lexical(node: Node) -> bool:
    """Return True if the words of a document alone decide."""
    if isinstance(node, Filter):
        return node.kind in LEXEME_PREFIXES
    if isinstance(node, AllOf | AnyOf):
        return bool(node.items) and all(is_lexical(item) for item in node.items)
    return is_lexical(node.item) if isinstance(node, Not) else True


def node_condition(node: Node) -> Condition:
    """Return a node as an SQL condition."""
    if is_lexical(node):
        return "d.tsv @@ %s::tsquery", [lexical_text(node)]
    if isinstance(node, Not):
        text, values = node_condition(node.item)
        return f"NOT ({text})", values
    if isinstance(node, Filter):
        return _row_condition(node.kind, [node])
    if isinstance(node, AllOf):
        return _joined(" AND ", "true", [node_condition(item) for item in node.items])
    assert isinstance(node, AnyOf)
    return _any_condition(node)


def _any_condition(node: AnyOf) -> Condition:
    # Filters by author or record become one set each.
    sets: dict[Kind, list[Filter]] = {}
    parts: list[Condition] = []
    for item in node.items:
        if isinstance(item, Filter) and item.kind not in LEXEME_PREFIXES:
            sets.setdefault(item.kind, []).append(item)
        else:
            parts.append(node_condition(item))
    parts += [_row_condition(kind, same) for kind, same in sets.items()]
    return _joined(" OR ", "false", parts)


def _joined(word: str, empty: str, parts: Sequence[Condition]) -> Condition:
    if not parts:
        return empty, []
    values = [value for _, given in parts for value in given]
    return "(" + word.join(text for text, _ in parts) + ")", values


def _row_condition(kind: Kind, same: Sequence[Filter]) -> Condition:
    if kind is Kind.AUTHOR:
        return (
            "d.actor = ANY(ARRAY(SELECT id FROM actor WHERE did = ANY(%s)))",
            [[f.value for f in same]],
        )
    assert kind is Kind.RECORD
    return (
        "(d.actor, d.collection, d.rkey) IN"
        " (SELECT * FROM unnest(%s::int4[], %s::int4[], %s::int8[]))",
        list(int_columns([record_of(f.value) for f in same], 3)),
    )


def lexical_text(node: Node) -> str:
    """Return tsquery text of a lexical node."""
    if isinstance(node, Words):
        return encode_clause(node)
    if isinstance(node, Filter):
        return any_of(LEXEME_PREFIXES[node.kind], [node.value])
    if isinstance(node, Not):
        return "!" + lexical_text(node.item)
    assert isinstance(node, AllOf | AnyOf)
    word = " & " if isinstance(node, AllOf) else " | "
    return "(" + word.join(lexical_text(item) for item in node.items) + ")"
