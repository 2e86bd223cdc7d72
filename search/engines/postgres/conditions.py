"""Query trees as SQL: one tsquery, and conditions on the rest of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from search.engines.postgres.tsvector import (
    AUTHOR,
    COLLECTION,
    DOMAIN,
    FEATURE,
    LANG,
    MENTION,
    NO_LEXEME,
    PARENT,
    QUOTE,
    ROOT,
    TAG,
    TIER,
    URL,
    encode_clause,
    sought,
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
    words_of,
)
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.arrays import int_array, int_columns
from storage.records.stats import tiers_of

POST: Final = COLLECTION_IDS[FEED_POST]
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
"""Filters that are lexemes. Those by author are too, with the author's number."""
MAX_AUTHORS: Final = 64
"""Larger sets of authors are compared with the column."""
Condition = tuple[str, list[Any]]

_MIN_LIKES: Final = f"""
(CASE WHEN d.collection = {POST} THEN (
    SELECT s.likes FROM post_stats s WHERE s.actor = d.actor AND s.rkey = d.rkey
) ELSE (
    SELECT s.likes FROM subject_stats s WHERE s.actor = d.actor
        AND s.collection = d.collection AND s.rkey = d.rkey
) END) >= %s
"""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a query: on the tsvector, and on the rest of a row."""

    nodes: tuple[Node, ...]
    """Conditions on the tsvector."""
    lexemes: tuple[tuple[str, ...], ...]
    """More of them: one lexeme of each set."""
    rows: tuple[Condition, ...]
    ids: Mapping[str, int]
    """Numbers of the authors by DID."""
    ranked: str
    """tsquery of the words whose places in a text decide on the rank."""
    authors: tuple[int, ...] | None = None
    """One of these is the author; None if `nodes` says so, or nothing does."""
    records: tuple[tuple[int, int, int], ...] | None = None
    """Every match is one of these records; None: of any."""

    @property
    def text(self) -> str:
        """Return the tsquery; empty without a condition on the tsvector."""
        parts = [encode_node(node, self.ids) for node in self.nodes]
        parts += [
            "(" + " | ".join(map(sought, lexemes)) + ")" for lexemes in self.lexemes
        ]
        return " & ".join(parts)

    @property
    def is_anchored(self) -> bool:
        """Return True if a lexeme can lead to every match."""
        return bool(self.lexemes) or any(map(is_anchor, self.nodes))

    def where(self, more: str = "") -> Condition:
        """Return an SQL condition on `d`; `more` is tsquery text."""
        text = " & ".join(part for part in (self.text, more) if part)
        parts = ["d.tsv @@ %s::tsquery"] if text else []
        values: list[Any] = [text] if text else []
        for part, given in self.rows:
            parts.append(part)
            values += given
        return " AND ".join(parts) or "true", values


def find_conditions(
    query: Query, collections: Sequence[int], ids: Mapping[str, int]
) -> Conditions:
    """Return the conditions of a query; `ids` holds the numbers of its authors."""
    lexemes: list[tuple[str, ...]] = []
    rows: list[Condition] = []
    if POST in collections:
        rows.append(("d.collection = ANY(%s::int4[])", [int_array(collections)]))
    else:
        kinds = tuple(f"{COLLECTION}{number}" for number in collections)
        lexemes.append(kinds or (NO_LEXEME,))
    if query.min_likes:
        rows.append((_MIN_LIKES, [query.min_likes]))
        lexemes += [(f"{TIER}{tier}",) for tier in tiers_of(query.min_likes)[-1:]]
    authors: tuple[int, ...] | None = None
    records: tuple[tuple[int, int, int], ...] | None = None
    parts = required(query.where)
    for part in parts:
        if is_lexical(part):
            continue
        kind = _kind_of_set(part)
        if kind is Kind.RECORD and records is None:
            records = tuple(record_of(f.value) for f in _items(part))
            continue
        rows.append(node_condition(part, ids))
        if kind is Kind.AUTHOR:
            authors = tuple(sorted({ids[d] for d in authors_of(part) if d in ids}))
    joint = " | " if isinstance(query.where, AnyOf) else " & "
    ranked = joint.join(map(encode_clause, dict.fromkeys(words_of(query.where))))
    nodes = tuple(part for part in parts if is_lexical(part))
    return Conditions(nodes, tuple(lexemes), tuple(rows), ids, ranked, authors, records)


def is_lexical(node: Node) -> bool:
    """Return True if the words of a document alone decide."""
    if isinstance(node, Filter):
        return node.kind in LEXEME_PREFIXES or node.kind is Kind.AUTHOR
    if isinstance(node, AnyOf) and len(node.items) > MAX_AUTHORS:
        return not any(_is_author(f) for f in node.items) and all(
            map(is_lexical, node.items)
        )
    if isinstance(node, AllOf | AnyOf):
        return bool(node.items) and all(is_lexical(item) for item in node.items)
    return is_lexical(node.item) if isinstance(node, Not) else True


def _is_author(node: Node) -> bool:
    return isinstance(node, Filter) and node.kind is Kind.AUTHOR


def is_anchor(node: Node) -> bool:
    """Return True if every match holds a lexeme of the node."""
    if isinstance(node, Words | Filter):
        return True
    if isinstance(node, AllOf):
        return any(map(is_anchor, node.items))
    return isinstance(node, AnyOf) and all(map(is_anchor, node.items))


def authors_of(node: Node) -> Iterator[str]:
    """Yield the DIDs of all author filters."""
    if isinstance(node, Filter):
        if node.kind is Kind.AUTHOR:
            yield node.value
    elif isinstance(node, Not):
        yield from authors_of(node.item)
    elif isinstance(node, AllOf | AnyOf):
        for item in node.items:
            yield from authors_of(item)


def encode_node(node: Node, ids: Mapping[str, int]) -> str:
    """Return tsquery text of a lexical node."""
    if isinstance(node, Words):
        return encode_clause(node)
    if isinstance(node, Filter):
        return sought(lexeme_of(node, ids))
    if isinstance(node, Not):
        return "!" + encode_node(node.item, ids)
    word = " & " if isinstance(node, AllOf) else " | "
    return "(" + word.join(encode_node(item, ids) for item in node.items) + ")"


def lexeme_of(node: Filter, ids: Mapping[str, int]) -> str:
    """Return the lexeme of a lexical filter."""
    if node.kind is Kind.AUTHOR:
        number = ids.get(node.value)
        return NO_LEXEME if number is None else f"{AUTHOR}{number}"
    return LEXEME_PREFIXES[node.kind] + node.value


def node_condition(node: Node, ids: Mapping[str, int]) -> Condition:
    """Return a node as an SQL condition on `d`."""
    if is_lexical(node):
        return "d.tsv @@ %s::tsquery", [encode_node(node, ids)]
    if isinstance(node, Not):
        text, values = node_condition(node.item, ids)
        return f"NOT ({text})", values
    if isinstance(node, AllOf):
        parts = [node_condition(item, ids) for item in node.items]
        return _joined(" AND ", "true", parts)
    if isinstance(node, Filter):
        return _set_condition(node.kind, [node], ids)
    assert isinstance(node, AnyOf)
    # Filters by author or record become one set each.
    sets: dict[Kind, list[Filter]] = {}
    parts = []
    for item in node.items:
        if isinstance(item, Filter) and item.kind in (Kind.AUTHOR, Kind.RECORD):
            sets.setdefault(item.kind, []).append(item)
        else:
            parts.append(node_condition(item, ids))
    parts += [_set_condition(kind, same, ids) for kind, same in sets.items()]
    return _joined(" OR ", "false", parts)


def _joined(word: str, empty: str, parts: Sequence[Condition]) -> Condition:
    if not parts:
        return empty, []
    values = [value for _, given in parts for value in given]
    return "(" + word.join(text for text, _ in parts) + ")", values


def _set_condition(
    kind: Kind, same: Sequence[Filter], ids: Mapping[str, int]
) -> Condition:
    if kind is Kind.AUTHOR:
        numbers = int_array(ids[f.value] for f in same if f.value in ids)
        return "d.actor = ANY(%s::int4[])", [numbers]
    return (
        "(d.actor, d.collection, d.rkey) IN"
        " (SELECT * FROM unnest(%s::int4[], %s::int4[], %s::int8[]))",
        [*int_columns([record_of(f.value) for f in same], 3)],
    )


def _kind_of_set(node: Node) -> Kind | None:
    """Return the kind of a filter, or of a set of filters of one kind."""
    if isinstance(node, Filter):
        return node.kind
    if not isinstance(node, AnyOf) or not node.items:
        return None
    kinds = {f.kind if isinstance(f, Filter) else None for f in node.items}
    return kinds.pop() if len(kinds) == 1 else None


def _items(node: Node) -> list[Filter]:
    items = node.items if isinstance(node, AnyOf) else (node,)
    return [item for item in items if isinstance(item, Filter)]
