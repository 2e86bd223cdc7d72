"""app.bsky.unspecced.searchActorsSkeleton: a search, or a typeahead with cursors."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.account_search import search_pages, typeahead_pages
from appview.shapes.skeleton import Skeleton, skeleton_actors
from network.xrpc.server import AuthMode

_SEARCH: Final = search_pages(skeleton_actors)
_TYPEAHEAD: Final = typeahead_pages(skeleton_actors, has_cursor=True)


class _SearchActors(BlockingMethod):
    auth: AuthMode = "none"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        pages = _TYPEAHEAD if params.get("typeahead") else _SEARCH
        return pages.run(context, params)


METHOD: Final = Skeleton(_SearchActors())
