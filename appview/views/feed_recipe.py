"""Recipes as their owners see them, with the record that publishes each."""

from __future__ import annotations

from typing import Any

from appview.app import AppView
from appview.own_feeds import generator_value
from feeds.recipes.compiling import compile_recipe
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.recipe_book import parse_stored
from feeds.serving.recipe_feed import RecipeFeed
from storage.collections import FEED_GENERATOR
from storage.private.feeds.feed_recipes import StoredRecipe


def recipe_view(app: AppView, stored: StoredRecipe) -> dict[str, Any]:
    """Return a recipe of an account, without a record if it is not served any more."""
    text = stored.text or ""
    view: dict[str, Any] = {
        "uri": f"at://{stored.owner}/{FEED_GENERATOR}/{stored.rkey}",
        "name": stored.rkey,
        "recipe": text,
        "savedAt": stored.saved_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    try:
        compiled = compile_recipe(parse_stored(text), stored.accounts)
    except InvalidRecipeError:
        # It was valid when it was saved, by an earlier version.
        return view
    feed = RecipeFeed(compiled, app.feeds.shared).algorithm
    return view | {"record": generator_value(app.service_did, feed)}
