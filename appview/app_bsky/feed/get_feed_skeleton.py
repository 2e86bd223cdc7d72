"""app.bsky.feed.getFeedSkeleton: the AT-URIs of a feed, for other AppViews."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Page, RowPages, Steps
from appview.pipeline import Params
from appview.shapes.feed import (
    OwnFeedPages,
    own_feed,
    request_id,
    without_opted_out,
)
from feeds.skeleton import SkeletonItem
from storage.records.addresses import Address

SKELETON_REPOST: Final = "app.bsky.feed.defs#skeletonReasonRepost"
SKELETON_PIN: Final = "app.bsky.feed.defs#skeletonReasonPin"


def _name(state: State, page: Page[SkeletonItem]) -> None:
    state.name(a for i in page.items for a in (i.post, i.repost) if a is not None)


def _named(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    taken = state.session.taken_down

    def is_named(address: Address | None) -> bool:
        uri = state.uris.get(address) if address else None
        return uri is not None and not taken.has_record(uri)

    named = [
        item
        for item in page.items
        if is_named(item.post) and (not item.repost or is_named(item.repost))
    ]
    return without_opted_out(state.session, named)


def _present(state: State, page: Page[SkeletonItem], params: Params) -> dict[str, Any]:
    feed: list[dict[str, Any]] = []
    for item in page.items:
        entry: dict[str, Any] = {"post": state.uris[item.post]}
        if item.repost is not None:
            reposted = state.uris[item.repost]
            entry["reason"] = {"$type": SKELETON_REPOST, "repost": reposted}
        elif item.pinned:
            entry["reason"] = {"$type": SKELETON_PIN}
        if item.feed_context:
            entry["feedContext"] = item.feed_context
        feed.append(entry)
    return {"feed": feed, **request_id(state, page, params)}


STEPS: Final = Steps(hydrate=_name, rules=_named, present=_present)
METHOD: Final = OwnFeedPages(RowPages(own_feed, STEPS))
