"""bigworld.feed.putRecipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from appview.app import AppView
from appview.pipeline import BlockingMethod, Handler, Params
from appview.session import RequestContext, context_of
from appview.shapes.procedure import require_account_of
from appview.views.feed_recipe import recipe_view
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.saving import put_recipe
from network.server.rate_limit import RateLimit
from network.xrpc.server import AuthMode, Call, Reply, XrpcError, XrpcServer
from storage.postgres.pool import Conn
from storage.private.feeds.feed_recipes import TooManyRecipesError

# A recipe may be filled by a search over all posts.
PUTS: Final = 60
_WINDOW_S: Final = 3_600.0


class _PutRecipe(BlockingMethod):
    auth: AuthMode = "required"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        shared = app.shared_buckets
        buckets = shared and shared.named("recipes")
        limit = RateLimit(PUTS, _WINDOW_S, buckets=buckets)

        def answer(call: Call) -> Reply:
            limit.take(require_account_of(context_of(app, call)))
            return self.answer(app, call)

        return answer

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        owner = require_account_of(context)
        app = context.app

        @contextmanager
        def open_index() -> Iterator[Conn]:
            with context.session() as session:
                yield session.conn

        try:
            stored = put_recipe(
                app.private,
                open_index,
                owner,
                params["recipe"],
                service_did=app.service_did,
            )
        except InvalidRecipeError as error:
            raise XrpcError("InvalidRecipe", str(error), 400) from error
        except TooManyRecipesError as error:
            raise XrpcError("TooManyRecipes", str(error), 400) from error
        app.feeds.forget()
        return recipe_view(app, stored)


METHOD: Final = _PutRecipe()
