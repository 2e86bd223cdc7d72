"""Previews of feeds that are not saved: the served code with another algorithm."""

from __future__ import annotations

from typing import Any, Final

from appview.app_bsky.feed import get_feed_skeleton
from appview.paging import RowPages
from appview.session import RequestContext
from appview.shapes.feed import (
    feed_failure,
    feed_source,
    own_feed_pages,
    prepare_feed,
)
from feeds.skeleton import Algorithm, FeedFailedError, SkeletonItem

SKELETON: Final = "app.bsky.feed.getFeedSkeleton"
FEED: Final = "app.bsky.feed.getFeed"


def preview_skeleton(
    context: RequestContext, algorithm: Algorithm, params: dict[str, Any]
) -> dict[str, Any]:
    """Return the reply of getFeedSkeleton; `context` has its NSID.

    `params` has the AT-URI that the feed will have, a limit and perhaps a cursor.
    """
    _prepare(context, algorithm, params)
    pages: RowPages[SkeletonItem] = RowPages(
        lambda session, _: feed_source(session, algorithm), get_feed_skeleton.STEPS
    )
    return pages.run(context, params)


def preview_feed(
    context: RequestContext, algorithm: Algorithm, params: dict[str, Any]
) -> dict[str, Any]:
    """Return the reply of getFeed; `context` has its NSID."""
    _prepare(context, algorithm, params)
    pages = own_feed_pages(lambda session, _: feed_source(session, algorithm))
    return pages.run(context, params)


def _prepare(
    context: RequestContext, algorithm: Algorithm, params: dict[str, Any]
) -> None:
    try:
        prepare_feed(context, algorithm, params)
    except FeedFailedError as error:
        raise feed_failure(error) from error
