"""app.bsky.unspecced.getPopularFeedGenerators: the most liked, or found by a query."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import GENERATOR
from appview.hydration.state import State
from appview.paging import RowPages, SearchPages, Steps
from appview.pipeline import BlockingMethod, Params
from appview.rules import Place, shown_records
from appview.session import RequestContext
from appview.shapes.record_search import record_search
from appview.shapes.suggested import in_order, present_feeds
from appview.skeletons.suggestions import popular_feeds
from network.xrpc.server import AuthMode
from storage.records.addresses import Address

_POPULAR: Final[RowPages[Address]] = RowPages(
    in_order(lambda session, _, after: popular_feeds(session, after)),
    Steps(
        lambda state, page: State.load_named(state, page.items),
        lambda state, page: shown_records(state, Place.NAMED_SUGGESTION, page.items),
        present_feeds,
    ),
)
_FOUND: Final[SearchPages[Address]] = record_search(GENERATOR, "query", present_feeds)


class _PopularFeedGenerators(BlockingMethod):
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        asked = (params.get("query") or "").strip()
        return (_FOUND if asked else _POPULAR).run(context, params)


METHOD: Final = _PopularFeedGenerators()
