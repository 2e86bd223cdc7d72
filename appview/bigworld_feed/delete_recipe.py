"""bigworld.feed.deleteRecipe."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import require_account_of
from network.xrpc.server import AuthMode
from storage.private.feeds.feed_recipes import remove_recipe


class _DeleteRecipe(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> None:
        owner = require_account_of(context)
        name = params["name"]
        if not name.isprintable():
            return  # The name of no recipe, and PostgreSQL refuses NUL.
        with context.app.private.write() as conn:
            remove_recipe(conn, owner, name, datetime.now(UTC))
        context.app.feeds.forget()


METHOD: Final = _DeleteRecipe()
