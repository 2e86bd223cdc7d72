"""Recipes compiled to queries and conditions.

Each matched source becomes a query of the search language, for the matcher and for the
search engines, and a condition that is exact. A query may find more than its condition:
it leaves out regular expressions and lengths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import Any, Final

from feeds.recipes.patterns import Pattern
from feeds.recipes.recipe import (
    MATCHED,
    Filter,
    Kept,
    Recipe,
    Source,
    SourceKind,
)
from search.matches.matcher import Condition, Seen, compile_node, is_listed
from search.query.nodes import (
    EVERYTHING,
    NOTHING,
    Kind,
    Node,
    Not,
    Query,
    all_of,
    any_of,
    filters,
)
from search.query.nodes import Filter as Term
from search.query.parser import parse_query
from storage.collections import FEED_POST

NO_ACCOUNT: Final = "did:plc:nobody"
"""The DID of a handle that is unknown."""
# A change here makes every recipe find its candidates again.
_VERSION: Final = 1
_SIGN: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class MatchedSource:
    """A source whose records are stored; `bit` is its place among the sources.

    `holds` is None if the query is exact.
    """

    bit: int
    query: Query
    collections: tuple[str, ...]
    holds: Condition | None


@dataclass(frozen=True, slots=True)
class CompiledRecipe:
    """A recipe that is ready to be matched and served.

    `candidates` is the number of its stored candidates, a hash of all that they depend
    on; `accounts` has the DIDs of its handles.
    """

    recipe: Recipe
    accounts: Mapping[str, str]
    matched: tuple[MatchedSource, ...]
    holds: Condition | None
    """The condition of the filter, None without one."""
    parts: tuple[tuple[str, Condition], ...]
    """The conditions of the filter by their keys, for explanations."""
    candidates: int

    @property
    def stored_bits(self) -> frozenset[int]:
        """Return the places of the sources whose records are stored."""
        return frozenset(source.bit for source in self.matched)

    @property
    def is_listed(self) -> bool:
        """Return True if each match must hold a term that few records have."""
        return all(is_listed(source.query) for source in self.matched)


FindSaved = Callable[[int], Node | None]
"""The condition of a saved search of the owner, None if there is none."""


def compile_recipe(
    recipe: Recipe,
    accounts: Mapping[str, str],
    find_saved: FindSaved = lambda number: None,
) -> CompiledRecipe:
    """Compile a recipe; `accounts` has the DIDs of its handles."""
    compiler = _Compiler(accounts)
    node, is_exact = compiler.filter_node(recipe.filter)
    holds = None if recipe.filter == Filter() else compiler.condition(recipe.filter)
    matched: list[MatchedSource] = []
    for bit, source in enumerate(recipe.sources):
        if not _is_matched(recipe, source):
            continue
        where = compiler.source_node(source, find_saved)
        matched.append(
            MatchedSource(
                bit,
                Query(all_of(where, node)),
                source.collections,
                None if is_exact else holds,
            )
        )
    return CompiledRecipe(
        recipe,
        accounts,
        tuple(matched),
        holds,
        tuple(
            (name, compiler.condition(part))
            for name, part in _split_filter(recipe.filter)
        ),
        _candidates_number(recipe, accounts, find_saved),
    )


def _is_matched(recipe: Recipe, source: Source) -> bool:
    """Return True if the records of a source are stored.

    All posts without a filter are read from their own table.
    """
    unfiltered = source.kind is SourceKind.EVERYTHING and recipe.filter == Filter()
    is_plain = unfiltered and source.collections == (FEED_POST,)
    return source.kind in MATCHED and not is_plain


def _split_filter(found: Filter) -> list[tuple[str, Filter]]:
    """Return each condition of a filter alone, by its key."""
    plain = Filter()
    return [
        (f.name, replace(plain, **{f.name: getattr(found, f.name)}))
        for f in fields(Filter)
        if getattr(found, f.name) != getattr(plain, f.name)
    ]


def _candidates_number(
    recipe: Recipe, accounts: Mapping[str, str], find_saved: FindSaved
) -> int:
    """Return a number of the stored sources and the filter."""
    sources = [
        (bit, source)
        for bit, source in enumerate(recipe.sources)
        if _is_matched(recipe, source)
    ]
    parts: list[Any] = [
        _VERSION,
        [
            [bit, asdict(replace(source, name="", weight=1.0, rank=None))]
            for bit, source in sources
        ],
        asdict(recipe.filter),
        int(recipe.window.total_seconds()),
        sorted(accounts.items()),
        [
            repr(find_saved(int(source.values[0])))
            for _, source in sources
            if source.kind is SourceKind.SAVED_SEARCH
        ],
    ]
    digest = sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") - _SIGN


def account_dids(
    names: tuple[str, ...], accounts: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the DIDs of accounts by DID or handle."""
    return tuple(
        name if name.startswith("did:") else accounts.get(name, NO_ACCOUNT)
        for name in names
    )


class _Compiler:
    def __init__(self, accounts: Mapping[str, str]) -> None:
        self._accounts = accounts
        self._patterns: dict[str, Pattern] = {}

    def source_node(self, source: Source, find_saved: FindSaved) -> Node:
        """Return the condition of a source."""
        if source.kind is SourceKind.EVERYTHING:
            return EVERYTHING
        if source.kind is SourceKind.TAGS:
            return any_of(*filters(Kind.TAG, source.values))
        if source.kind is SourceKind.DOMAINS:
            return any_of(*filters(Kind.DOMAIN, source.values))
        if source.kind is SourceKind.RECORD:
            kinds = (Kind.QUOTE, Kind.PARENT, Kind.ROOT)
            return any_of(*(Term(kind, source.values[0]) for kind in kinds))
        if source.kind is SourceKind.SEARCH:
            return self._parse(source.values[0])
        # A saved search that is gone finds nothing.
        return find_saved(int(source.values[0])) or NOTHING

    def _parse(self, text: str) -> Node:
        return parse_query(
            text, resolve_handle=lambda handle: self._accounts.get(handle)
        ).where

    def filter_node(self, found: Filter) -> tuple[Node, bool]:
        """Return a condition that holds at least where a filter does, and True if it
        holds only there."""
        nodes: list[Node] = [
            any_of(*filters(kind, values))
            for kind, values in (
                (Kind.LANG, found.languages),
                (Kind.FEATURE, found.media),
                (Kind.TAG, found.tags),
                (Kind.DOMAIN, found.domains),
                (Kind.AUTHOR, account_dids(found.authors, self._accounts)),
            )
            if values
        ]
        nodes += [Not(term) for term in filters(Kind.FEATURE, found.not_media)]
        not_authors = account_dids(found.not_authors, self._accounts)
        nodes += [Not(term) for term in filters(Kind.AUTHOR, not_authors)]
        for feature, kept in (("reply", found.replies), ("quote", found.quotes)):
            term = Term(Kind.FEATURE, feature)
            if kept is not Kept.ANY:
                nodes.append(term if kept is Kept.ONLY else Not(term))
        if found.search:
            nodes.append(self._parse(found.search))
        exact = not (found.regex or found.not_regex or found.min_chars)
        exact = exact and found.max_chars is None
        if found.any:
            parts = [self.filter_node(inner) for inner in found.any]
            if all(node != EVERYTHING for node, _ in parts):
                nodes.append(any_of(*(node for node, _ in parts)))
            exact = exact and all(is_exact for _, is_exact in parts)
        for inner in found.none:
            node, is_exact = self.filter_node(inner)
            # The opposite of a wide condition would be too narrow.
            if is_exact:
                nodes.append(Not(node))
            exact = exact and is_exact
        return all_of(*nodes), exact

    def condition(self, found: Filter) -> Condition:
        """Return a filter as a function of a document."""
        plain = replace(found, any=(), none=(), regex=(), not_regex=())
        node, _ = self.filter_node(plain)
        parts: list[Condition] = []
        if node != EVERYTHING:
            parts.append(compile_node(node))
        if found.min_chars or found.max_chars is not None:
            parts.append(_has_length(found.min_chars, found.max_chars))
        if found.any:
            parts.append(_any(tuple(map(self.condition, found.any))))
        parts += [_not(self.condition(inner)) for inner in found.none]
        # Last, since these cost most.
        if found.regex:
            parts.append(self._matches(found.regex))
        if found.not_regex:
            parts.append(_not(self._matches(found.not_regex)))
        return _all(tuple(parts))

    def _matches(self, sources: tuple[str, ...]) -> Condition:
        patterns = [
            self._patterns.setdefault(source, Pattern(source)) for source in sources
        ]
        return lambda seen: any(
            pattern.found_in(seen.document.text) for pattern in patterns
        )


def _has_length(least: int, most: int | None) -> Condition:
    def holds(seen: Seen) -> bool:
        length = len(seen.document.text)
        return least <= length and (most is None or length <= most)

    return holds


def _all(parts: tuple[Condition, ...]) -> Condition:
    return lambda seen: all(part(seen) for part in parts)


def _any(parts: tuple[Condition, ...]) -> Condition:
    return lambda seen: any(part(seen) for part in parts)


def _not(part: Condition) -> Condition:
    return lambda seen: not part(seen)
