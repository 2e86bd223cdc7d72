"""Saving of recipes: the text is read, its handles resolved, its limits checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from feeds.recipes.compiling import CompiledRecipe, compile_recipe
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.recipe import Recipe
from feeds.recipes.recipe_book import parse_stored, saved_finder
from storage.postgres.pool import Conn
from storage.private.feeds.feed_recipes import PROVIDER, StoredRecipe, save_recipe
from storage.private.private_store import PrivateStore
from storage.records.addresses import find_handles

OpenIndex = Callable[[], AbstractContextManager[Conn]]


def prepare_recipe(
    private: PrivateStore, open_index: OpenIndex, owner: str, text: str
) -> CompiledRecipe:
    """Return a recipe that is ready to be saved or shown.

    `owner` is the DID whose saved searches it may use. Raises InvalidRecipeError. Holds
    one connection at a time.
    """
    recipe = parse_stored(text)
    accounts = resolve_handles(open_index, recipe)
    with private.read() as conn:
        find_saved = saved_finder(conn, owner, recipe)
    return compile_recipe(recipe, accounts, find_saved)


def resolve_handles(open_index: OpenIndex, recipe: Recipe) -> dict[str, str]:
    """Return the DIDs of the handles in a recipe. Raises InvalidRecipeError."""
    if not recipe.handles:
        return {}
    with open_index() as conn:
        found = find_handles(conn, recipe.handles)
    for handle in sorted(recipe.handles):
        if handle not in found:
            raise InvalidRecipeError(f"no account of the index has the handle {handle}")
    return found


def put_recipe(
    private: PrivateStore,
    open_index: OpenIndex,
    owner: str,
    text: str,
    *,
    service_did: str,
    file: str = "",
) -> StoredRecipe:
    """Check and save a recipe of an account; `owner` PROVIDER is the provider itself.

    Raises InvalidRecipeError or TooManyRecipesError.
    """
    did = service_did if owner == PROVIDER else owner
    compiled = prepare_recipe(private, open_index, did, text)
    with private.write() as conn:
        return save_recipe(
            conn,
            owner,
            compiled.recipe.name,
            text,
            datetime.now(UTC),
            accounts=compiled.accounts,
            listed=compiled.is_listed,
            file=file,
        )
