"""bigworld.feed.listRecipes."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import require_account_of
from appview.views.feed_recipe import recipe_view
from network.xrpc.server import AuthMode
from storage.private.feeds.feed_recipes import find_recipes


class _ListRecipes(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        owner = require_account_of(context)
        with context.app.private.read() as conn:
            recipes = find_recipes(conn, owner)
        return {"recipes": [recipe_view(context.app, stored) for stored in recipes]}


METHOD: Final = _ListRecipes()
