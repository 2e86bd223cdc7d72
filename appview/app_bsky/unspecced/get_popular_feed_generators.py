"""app.bsky.unspecced.getPopularFeedGenerators: the most liked, or found by a query."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages, Steps
from appview.rules import Place, shown_records
from appview.shapes.suggested import in_order, present_feeds
from appview.skeletons.suggestions import popular_feeds
from storage.records.addresses import Address

_POPULAR: Final[RowPages[Address]] = RowPages(
    in_order(lambda session, _, after: popular_feeds(session, after)),
    Steps(
        lambda state, page: state.load_named(page.items),
        lambda state, page: shown_records(state, Place.NAMED_SUGGESTION, page.items),
        present_feeds,
    ),
)

METHOD: Final = _POPULAR
