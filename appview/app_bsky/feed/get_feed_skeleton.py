"""app.bsky.feed.getFeedSkeleton: the AT-URIs of a feed, for other AppViews."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Page, RowPages, Steps
from appview.pipeline import Params
from appview.shapes.feed import own_feed
from feeds.skeleton import SkeletonItem

SKELETON_REPOST: Final = "app.bsky.feed.defs#skeletonReasonRepost"


def _name(state: State, page: Page[SkeletonItem]) -> None:
    state.name(a for i in page.items for a in (i.post, i.repost) if a is not None)


def _named(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    return [
        item
        for item in page.items
        if item.post in state.uris and (not item.repost or item.repost in state.uris)
    ]


def _present(state: State, page: Page[SkeletonItem], _: Params) -> dict[str, Any]:
    feed: list[dict[str, Any]] = []
    for item in page.items:
        entry: dict[str, Any] = {"post": state.uris[item.post]}
        if item.repost is not None:
            reposted = state.uris[item.repost]
            entry["reason"] = {"$type": SKELETON_REPOST, "repost": reposted}
        feed.append(entry)
    return {"feed": feed}


METHOD: Final[RowPages[SkeletonItem]] = RowPages(
    own_feed, Steps(hydrate=_name, rules=_named, present=_present)
)
