"""Recipes that are not saved, served as they would be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from feeds.recipes.compiling import CompiledRecipe
from feeds.serving.filling import find_fill, search_all
from feeds.serving.recipe_feed import RecipeFeed, Shared
from feeds.serving.streams import fixed_reader
from search.engines.contract import SearchEngine
from storage.postgres.pool import Pool

DRAFT_POSTS: Final = 2_000
"""Newest posts of each source of a draft."""


def draft_feed(
    pool: Pool,
    engine: SearchEngine,
    compiled: CompiledRecipe,
    shared: Shared,
    *,
    most: int = DRAFT_POSTS,
    seconds: float | None = None,
) -> tuple[RecipeFeed, bool]:
    """Return the feed of a recipe, and True if its candidates are stored.

    Candidates that are stored for a saved recipe are used, else the newest ones are
    searched now, for some `seconds`. Raises TooCostlyError. Holds no connection of the
    index meanwhile.
    """
    if not compiled.matched:
        return RecipeFeed(compiled, shared), True
    with pool.connection() as conn:
        fill = find_fill(conn, compiled.candidates)
    if fill is not None and fill.done_at is not None:
        return RecipeFeed(compiled, shared), True
    found = search_all(pool, engine, compiled, datetime.now(UTC), most, seconds)
    return RecipeFeed(compiled, shared, fixed_reader(found)), False
