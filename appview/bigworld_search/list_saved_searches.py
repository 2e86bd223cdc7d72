"""bigworld.search.listSavedSearches."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import require_account_of
from appview.views.saved_search import saved_search_view
from network.xrpc.server import AuthMode
from storage.private.match_webhooks import find_webhooks
from storage.private.saved_searches import find_searches


class _ListSavedSearches(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        owner = require_account_of(context)
        with context.app.private.read() as conn:
            searches = find_searches(conn, owner)
            webhooks = find_webhooks(conn, [search.id for search in searches])
        key = context.app.cursor_secret
        return {
            "searches": [
                saved_search_view(key, search, webhooks.get(search.id))
                for search in searches
            ]
        }


METHOD: Final = _ListSavedSearches()
