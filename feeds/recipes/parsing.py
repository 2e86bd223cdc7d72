"""Recipes from TOML files and JSON records.

Both have the same keys. An unknown key, a value out of bounds and a source without a
meaning are refused, with the line and the reason.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from feeds.recipes.field_checks import Checks
from feeds.recipes.fields import Fields, InvalidRecipeError
from feeds.recipes.recipe import (
    DEFAULT_WINDOW,
    MATCHED,
    MAX_DESCRIPTION_CHARS,
    MAX_FILTER_DEPTH,
    MAX_FILTERS,
    MAX_NAME_CHARS,
    MAX_PATTERNS,
    MAX_POOL,
    MAX_RECIPE_BYTES,
    MAX_SECTIONS,
    MAX_SOURCES,
    MAX_SPREAD,
    MAX_STICKY,
    MAX_TITLE_CHARS,
    MAX_WINDOW,
    Audience,
    Diversity,
    Filter,
    Kept,
    LiveFilter,
    Mix,
    Rank,
    RankBy,
    Recipe,
    Section,
    Source,
    SourceKind,
)
from feeds.recipes.toml_lines import Lines, has_long_key
from storage.collections import FEED_POST

__all__ = ["InvalidRecipeError", "parse_recipe", "read_recipe"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_COUNT: Final = 1_000_000_000
_AT_LINE: Final = re.compile(r"(.*) \(at line (\d+), column \d+\)")
_ACCOUNT_KINDS: Final = frozenset(SourceKind) - MATCHED


def parse_recipe(text: str) -> Recipe:
    """Parse the text of a recipe file. Raises InvalidRecipeError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRecipeError("the file is not valid Unicode") from None
    if size > MAX_RECIPE_BYTES:
        raise InvalidRecipeError(f"the file is over {MAX_RECIPE_BYTES} bytes")
    if has_long_key(text):
        raise InvalidRecipeError("a key has too many parts")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _AT_LINE.fullmatch(str(error))
        reason = match[1] if match else str(error)
        line = int(match[2]) if match else text.count("\n") + 1
        raise InvalidRecipeError(f"not valid TOML: {reason}", line) from None
    except (ValueError, RecursionError):
        raise InvalidRecipeError("not valid TOML: a value is too large") from None
    return _read(Fields(values, Lines(text)))


def read_recipe(values: Mapping[str, Any]) -> Recipe:
    """Read a recipe in the value of a record. Raises InvalidRecipeError."""
    return _read(Fields(values, Lines()))


def _read(fields: Fields) -> Recipe:
    checks = Checks()
    recipe = Recipe(
        name=fields.text("name", most=MAX_NAME_CHARS, check=_check_name),
        title=fields.text("title", most=MAX_TITLE_CHARS),
        description=fields.text("description", "", most=MAX_DESCRIPTION_CHARS),
        window=fields.span("window", most=MAX_WINDOW) or DEFAULT_WINDOW,
        sign_in=fields.flag("sign_in"),
        video=fields.flag("video"),
        sticky=fields.texts("sticky", most=MAX_STICKY, check=checks.post),
    )
    sources = _read_sources(fields, checks)
    conditions = fields.table("filter")
    live = _read_live(conditions, checks)
    rank = _read_rank(fields.table("rank"))
    recipe = replace(
        recipe,
        sources=sources,
        live=live,
        filter=_read_filter(conditions, checks, 0),
        rank=rank,
        sections=_read_sections(fields, checks, {s.name for s in sources}),
        handles=frozenset(checks.handles),
    )
    fields.finish()
    if checks.patterns > MAX_PATTERNS:
        raise fields.fail(f"at most {MAX_PATTERNS} regular expressions", "filter")
    if checks.filters > MAX_FILTERS:
        raise fields.fail(f"at most {MAX_FILTERS} filters in any and none", "filter")
    _check_mix(fields, recipe)
    return recipe


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("write lower-case letters, digits and hyphens")
    return name


def _read_sources(fields: Fields, checks: Checks) -> tuple[Source, ...]:
    tables = fields.tables("source", most=MAX_SOURCES)
    if not tables:
        raise fields.fail("a recipe needs a [[source]]")
    sources: list[Source] = []
    for number, table in enumerate(tables, 1):
        source = _read_source(table, checks, f"source {number}")
        if any(source.name == other.name for other in sources):
            raise table.fail(f"another source is named {source.name}", "name")
        sources.append(source)
    return tuple(sources)


def _read_source(fields: Fields, checks: Checks, name: str) -> Source:
    name = fields.text("name", name, most=MAX_NAME_CHARS)
    kinds = [kind for kind in SourceKind if kind.value in fields]
    if len(kinds) > 1:
        raise fields.fail(f"{kinds[0]} and {kinds[1]} cannot stand in one source")
    if not kinds and "collections" not in fields:
        known = ", ".join(SourceKind)
        raise fields.fail(f"a source needs one of {known}")
    kind = kinds[0] if kinds else SourceKind.EVERYTHING
    source = Source(
        name=name,
        kind=kind,
        values=_read_values(fields, checks, kind) if kinds else (),
        weight=fields.number("weight", 1.0, low=0.01, high=100.0),
    )
    if kind in _ACCOUNT_KINDS:
        source = replace(source, reposts=fields.flag("reposts"))
    elif kind is not SourceKind.SAVED_SEARCH:
        nsids = fields.texts("collections", most=20, check=checks.collection)
        source = replace(source, collections=nsids or (FEED_POST,))
    if "rank" in fields:
        source = replace(source, rank=fields.choice("rank", RankBy, None))
    fields.finish()
    return source


def _read_values(fields: Fields, checks: Checks, kind: SourceKind) -> tuple[str, ...]:
    key = kind.value
    if kind is SourceKind.SEARCH:
        return (fields.text(key, check=checks.search),)
    if kind is SourceKind.SAVED_SEARCH:
        return (str(fields.integer(key, 0, low=1, high=2**62)),)
    if kind in (SourceKind.LIST, SourceKind.STARTER_PACK):
        check = checks.list if kind is SourceKind.LIST else checks.starter_pack
        return (fields.text(key, check=check),)
    if kind is SourceKind.FOLLOWS_OF:
        return (fields.text(key, check=checks.account),)
    if kind is SourceKind.RECORD:
        return (fields.text(key, check=checks.record),)
    several = {
        SourceKind.TAGS: checks.tag,
        SourceKind.DOMAINS: checks.domain,
        SourceKind.ACCOUNTS: checks.account,
    }
    if kind in several:
        return fields.texts(key, check=several[kind])
    if not fields.flag(key):
        raise fields.fail("write true, or leave the source out", key)
    return ()


def _read_filter(fields: Fields, checks: Checks, depth: int) -> Filter:
    if depth > MAX_FILTER_DEPTH:
        raise fields.fail(f"more than {MAX_FILTER_DEPTH} filters in another")
    found = Filter(
        languages=fields.texts("languages", check=checks.language),
        media=fields.texts("media", check=checks.media),
        not_media=fields.texts("not_media", check=checks.media),
        search=fields.text("search", "", check=checks.search),
        regex=fields.texts("regex", most=MAX_PATTERNS, check=checks.pattern),
        not_regex=fields.texts("not_regex", most=MAX_PATTERNS, check=checks.pattern),
        tags=fields.texts("tags", check=checks.tag),
        domains=fields.texts("domains", check=checks.domain),
        authors=fields.texts("authors", check=checks.account),
        not_authors=fields.texts("not_authors", check=checks.account),
        replies=fields.choice("replies", Kept, Kept.ANY),
        quotes=fields.choice("quotes", Kept, Kept.ANY),
        min_chars=fields.integer("min_chars", 0, low=0, high=10_000),
        max_chars=fields.optional_integer("max_chars", high=10_000),
        any=_read_filters(fields, "any", checks, depth),
        none=_read_filters(fields, "none", checks, depth),
    )
    if depth and found == Filter():
        raise fields.fail("the filter is empty")
    fields.finish()
    return found


def _read_filters(
    fields: Fields, key: str, checks: Checks, depth: int
) -> tuple[Filter, ...]:
    tables = fields.tables(key, most=MAX_FILTERS)
    checks.filters += len(tables)
    return tuple(_read_filter(table, checks, depth + 1) for table in tables)


def _read_live(fields: Fields, checks: Checks) -> LiveFilter:
    counts: dict[str, Any] = {}
    for name in ("likes", "reposts", "replies", "quotes"):
        low, high = f"min_{name}", f"max_{name}"
        counts[low] = fields.integer(low, 0, low=0, high=_COUNT)
        counts[high] = fields.optional_integer(high, high=_COUNT)
        if counts[high] is not None and counts[high] < counts[low]:
            raise fields.fail(f"{high} is below {low}", high)
    return LiveFilter(
        **counts,
        min_age=fields.span("min_age", most=MAX_WINDOW) or timedelta(0),
        max_age=fields.span("max_age", most=MAX_WINDOW),
        labels=fields.texts("labels", most=50, check=checks.label),
        not_labels=fields.texts("not_labels", most=50, check=checks.label),
        lists=fields.texts("lists", most=20, check=checks.list),
        not_lists=fields.texts("not_lists", most=20, check=checks.list),
        followed=fields.choice("followed", Kept, Kept.ANY),
        not_seen=fields.flag("not_seen"),
    )


def _read_rank(fields: Fields) -> Rank:
    usual, spread = Rank(), Diversity()
    rank = Rank(
        by=fields.choice("by", RankBy, usual.by),
        mix=fields.choice("mix", Mix, usual.mix),
        likes=fields.number("likes", usual.likes, low=0, high=1_000),
        reposts=fields.number("reposts", usual.reposts, low=0, high=1_000),
        replies=fields.number("replies", usual.replies, low=0, high=1_000),
        quotes=fields.number("quotes", usual.quotes, low=0, high=1_000),
        gravity=fields.number("gravity", usual.gravity, low=0, high=5),
        offset_hours=fields.number(
            "offset_hours", usual.offset_hours, low=0.1, high=1_000
        ),
        quiet_days=fields.integer("quiet_days", usual.quiet_days, low=1, high=30),
        pool=fields.integer("pool", usual.pool, low=10, high=MAX_POOL),
        diversity=Diversity(
            fields.optional_integer("per_author", low=1, high=MAX_SPREAD),
            fields.optional_integer("per_thread", low=1, high=MAX_SPREAD),
            fields.optional_integer("per_domain", low=1, high=MAX_SPREAD),
            fields.integer("spread", spread.spread, low=2, high=MAX_SPREAD),
        ),
    )
    fields.finish()
    return rank


def _read_sections(
    fields: Fields, checks: Checks, names: set[str]
) -> tuple[Section, ...]:
    sections: list[Section] = []
    for table in fields.tables("section", most=MAX_SECTIONS):
        chosen = table.texts("sources", most=MAX_SOURCES)
        for name in chosen:
            if name not in names:
                raise table.fail(f"there is no source {name}", "sources")
        section = Section(
            audience=table.choice("for", Audience, None),
            sources=chosen or None,
            rank=_read_rank(table.table("rank")) if "rank" in table else None,
            sticky=table.texts("sticky", most=MAX_STICKY, check=checks.post) or None,
            follows_below=table.integer("follows_below", 10, low=1, high=10_000),
        )
        if any(section.audience == other.audience for other in sections):
            raise table.fail(f"a second section for {section.audience}", "for")
        table.finish()
        sections.append(section)
    return tuple(sections)


def _check_mix(fields: Fields, recipe: Recipe) -> None:
    """Refuse weights and ranks of sources that would change nothing."""
    ranks = [recipe.rank, *(s.rank for s in recipe.sections if s.rank is not None)]
    interleaved = any(rank.mix is Mix.INTERLEAVE for rank in ranks)
    scored = any(rank.by is not RankBy.LATEST for rank in ranks)
    for number, source in enumerate(recipe.sources):
        where = Fields({}, fields.lines, ("source", number))
        if source.rank is not None and not interleaved:
            raise where.fail('the rank of a source needs mix = "interleave"', "rank")
        if source.weight != 1.0 and not (interleaved or scored):
            raise where.fail(
                'a weight needs mix = "interleave" or another order than latest',
                "weight",
            )
