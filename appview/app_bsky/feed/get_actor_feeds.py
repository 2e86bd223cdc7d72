"""app.bsky.feed.getActorFeeds."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages, Steps
from appview.rules import Place, shown_records
from appview.skeletons.generators import actor_feeds
from appview.views.named import generator_view
from storage.records.addresses import Address

METHOD: Final[RowPages[Address]] = RowPages(
    actor_feeds,
    Steps(
        hydrate=lambda state, page: state.load_named(page.items),
        rules=lambda state, page: shown_records(state, Place.NAMED, page.items),
        present=lambda state, page, _: {
            "feeds": [generator_view(state, address) for address in page.items]
        },
    ),
)
