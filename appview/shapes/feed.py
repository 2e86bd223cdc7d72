"""Feeds in pages: a source of items, hydrated, without what the rules hide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_items
from appview.session import Session
from appview.skeletons.generators import find_algorithm
from appview.views.post import feed_view_post
from feeds.skeleton import FeedRequest, SkeletonItem, ViewerRequiredError
from network.xrpc.server import AuthMode, XrpcError

Rules = Callable[[State, Page[SkeletonItem]], list[SkeletonItem]]


def _shown(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    return shown_items(state, Place.FEED_ITEM, page.items)


def feed_pages(
    source: Callable[[Session, Params], Source[SkeletonItem]],
    rules: Rules = _shown,
    *,
    auth: AuthMode = "optional",
) -> RowPages[SkeletonItem]:
    """Return the pages of a feed or timeline."""
    return RowPages(
        source,
        Steps(
            hydrate=lambda state, page: state.load_feed(page.items),
            rules=rules,
            present=present_feed,
        ),
        auth=auth,
    )


def present_feed(state: State, page: Page[SkeletonItem], _: Params) -> dict[str, Any]:
    """Return the JSON of a feed."""
    return {"feed": [feed_view_post(state, item) for item in page.items]}


def own_feed(session: Session, params: Params) -> Source[SkeletonItem]:
    """Return the items of a feed that this provider computes."""
    algorithm = find_algorithm(session, params["feed"])
    if algorithm is None:
        raise XrpcError(
            "UnknownFeed", f"this provider does not serve {params['feed']}", 400
        )

    def fetch(after: Keyset | None, limit: int) -> list[Entry[SkeletonItem]]:
        request = FeedRequest(session.viewer_actor, limit, after)
        try:
            entries = algorithm.build(session.conn, request)
        except ViewerRequiredError as error:
            raise XrpcError("AuthMissing", str(error), 401) from error
        return [Entry(entry.item, entry.keyset) for entry in entries]

    return Source(fetch)
