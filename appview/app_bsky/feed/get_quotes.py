"""app.bsky.feed.getQuotes."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Page, RowPages, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_records
from appview.skeletons.post_quotes import post_quotes
from appview.views.common import present
from appview.views.post import post_view
from storage.records.addresses import Address


def _shown(state: State, page: Page[Address]) -> list[Address]:
    author = page.subject[0] if page.subject else None
    return shown_records(state, Place.QUOTING, page.items, beside=author)


def _present(state: State, page: Page[Address], params: Params) -> dict[str, Any]:
    return present(
        uri=params["uri"],
        cid=params.get("cid"),
        posts=[post_view(state, address) for address in page.items],
    )


METHOD: Final[RowPages[Address]] = RowPages(
    post_quotes,
    Steps(
        hydrate=lambda state, page: state.load_posts(page.items),
        rules=_shown,
        present=_present,
    ),
)
