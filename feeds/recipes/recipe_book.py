"""The recipes of all feeds in memory, kept up to date with the private database."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, Final

from feeds.recipes.compiling import CompiledRecipe, FindSaved, compile_recipe
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.parsing import parse_recipe, read_recipe
from feeds.recipes.recipe import MAX_RECIPE_BYTES, Recipe, SourceKind
from search.matches.saved_matcher import read_saved
from search.query.nodes import Node
from search.query.operators import InvalidQueryError
from storage.postgres.pool import Conn
from storage.private.feeds.feed_recipes import (
    PROVIDER,
    StoredRecipe,
    load_recipe_changes,
)
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import (
    SavedSearch,
    find_searches_by_id,
    load_last_change,
)

log = logging.getLogger(__name__)

_LOADED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class KnownRecipe:
    """A stored recipe that is compiled."""

    stored: StoredRecipe
    compiled: CompiledRecipe

    @property
    def recipe(self) -> Recipe:
        """Return the recipe."""
        return self.compiled.recipe


def parse_stored(text: str) -> Recipe:
    """Return a recipe of TOML or JSON text. Raises InvalidRecipeError."""
    if not text.startswith("{"):
        return parse_recipe(text)
    if len(text) > MAX_RECIPE_BYTES:
        raise InvalidRecipeError(f"the recipe is over {MAX_RECIPE_BYTES} bytes")
    try:
        values: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRecipeError("the recipe is not valid JSON") from None
    return read_recipe(values)


class RecipeBook:
    """Recipes by number, for one thread at a time.

    Saved searches of a recipe belong to its owner; `service_did` is the owner of those
    of the provider.
    """

    def __init__(self, service_did: str) -> None:
        self._service_did = service_did
        self._seen = 0
        self._searches_seen = 0
        self._recipes: dict[int, KnownRecipe] = {}

    @property
    def recipes(self) -> dict[int, KnownRecipe]:
        """Return the recipes by number; do not change it."""
        return self._recipes

    def refresh(self, private: PrivateStore) -> list[int]:
        """Read the changes since the last time; return the numbers of changed ones."""
        changed: list[int] = []
        while True:
            with private.read() as conn:
                last, rows = load_recipe_changes(conn, self._seen, _LOADED_AT_ONCE)
                if not changed:
                    rows = [*self._with_changed_searches(conn), *rows]
                for stored in rows:
                    self._apply(conn, stored)
            self._seen = last
            changed += [stored.id for stored in rows]
            if len(rows) < _LOADED_AT_ONCE:
                return changed

    def _with_changed_searches(self, conn: Conn) -> list[StoredRecipe]:
        """Return recipes with saved searches, if any search has changed."""
        using = [k.stored for k in self._recipes.values() if _numbers(k.recipe)]
        last = load_last_change(conn)
        if last == self._searches_seen:
            return []
        self._searches_seen = last
        return using

    def _apply(self, conn: Conn, stored: StoredRecipe) -> None:
        self._recipes.pop(stored.id, None)
        if stored.text is None:
            return
        try:
            recipe = parse_stored(stored.text)
        except InvalidRecipeError as error:
            # It was valid when it was saved.
            log.warning("recipe %d is not read: %s", stored.id, error)
            return
        owner = self._service_did if stored.owner == PROVIDER else stored.owner
        find_saved = saved_finder(conn, owner, recipe)
        compiled = compile_recipe(recipe, stored.accounts, find_saved)
        self._recipes[stored.id] = KnownRecipe(stored, compiled)


def _numbers(recipe: Recipe) -> list[int]:
    kind = SourceKind.SAVED_SEARCH
    return [int(s.values[0]) for s in recipe.sources if s.kind is kind]


def saved_finder(conn: Conn, owner: str, recipe: Recipe) -> FindSaved:
    """Return the saved searches of a recipe, without those of other owners."""
    numbers = _numbers(recipe)
    found: dict[int, SavedSearch] = {}
    if numbers:
        found = find_searches_by_id(conn, numbers)

    def find(number: int) -> Node | None:
        search = found.get(number)
        if search is None or search.owner != owner:
            return None
        try:
            return read_saved(search).where
        except InvalidQueryError:
            return None

    return find
