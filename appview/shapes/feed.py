"""Feeds in pages: a source of items, hydrated, without what the rules hide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_items
from appview.session import Session
from appview.skeletons.generators import find_served
from appview.views.post import feed_view_post
from feeds.serving.recipe_feed import find_left_out
from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    SkeletonItem,
    ViewerRequiredError,
)
from network.xrpc.server import AuthMode, XrpcError

Rules = Callable[[State, Page[SkeletonItem]], list[SkeletonItem]]


def _shown(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    return shown_items(state, Place.FEED_ITEM, page.items)


def recommended(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    """Return shown items, without accounts that opted out of algorithmic feeds."""
    return without_opted_out(state.session, _shown(state, page))


def without_opted_out(
    session: Session, items: list[SkeletonItem]
) -> list[SkeletonItem]:
    """Return items without those of accounts that opted out of algorithmic feeds.

    Accounts that the viewer follows stay.
    """
    accounts = {a.actor for i in items for a in (i.post, i.repost) if a is not None}
    out = find_left_out(session.conn, accounts, session.viewer_actor)
    return [
        item
        for item in items
        if item.post.actor not in out
        and (item.repost is None or item.repost.actor not in out)
    ]


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
    served = find_served(session, params["feed"])
    if served is None:
        raise XrpcError(
            "UnknownFeed", f"this provider does not serve {params['feed']}", 400
        )

    return feed_source(session, served.algorithm)


def feed_source(session: Session, algorithm: Algorithm) -> Source[SkeletonItem]:
    """Return the items of an algorithm for the viewer."""

    def fetch(after: Keyset | None, limit: int) -> list[Entry[SkeletonItem]]:
        request = FeedRequest(session.viewer_actor, limit, after)
        try:
            entries = algorithm.build(session.conn, request)
        except ViewerRequiredError as error:
            raise XrpcError("AuthMissing", str(error), 401) from error
        return [Entry(entry.item, entry.keyset) for entry in entries]

    return Source(fetch)
