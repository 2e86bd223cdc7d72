"""Searches of posts: pages of views or of AT-URIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.records import POST
from appview.hydration.state import State
from appview.paging import Page, SearchPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_records
from appview.session import RequestContext
from appview.shapes.record_search import found_records, total_of
from appview.shapes.skeleton import Present
from appview.views.post import post_view
from search.query.nodes import Query
from storage.records.addresses import Address


def present_posts(state: State, page: Page[Address], _: Params) -> dict[str, Any]:
    """Return found posts, with the number of hits if it is known."""
    posts = [post_view(state, address) for address in page.items]
    return {"posts": posts, **total_of(page.notes)}


def post_search(
    read: Callable[[RequestContext, Params], Query],
    present: Present = present_posts,
    *,
    quotes: int | None = None,
) -> SearchPages[Address]:
    """Return pages of the posts that a query finds; `read` makes it of parameters.

    `quotes` is the number of levels of quotes to load, by default all that are shown.
    """

    def source(context: RequestContext, params: Params) -> Source[Address]:
        return found_records(context, read(context, params), POST)

    def load(state: State, page: Page[Address]) -> None:
        levels = {} if quotes is None else {"quotes": quotes}
        state.load_posts(page.items, **levels)

    return SearchPages(
        source,
        Steps(
            hydrate=load,
            rules=lambda state, page: shown_records(state, Place.POST, page.items),
            present=present,
        ),
    )
