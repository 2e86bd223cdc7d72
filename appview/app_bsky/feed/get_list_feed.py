"""app.bsky.feed.getListFeed."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.paging import Page, RowPages
from appview.rules import Place, shown_records
from appview.shapes.feed import feed_pages
from appview.skeletons.timelines import list_feed
from feeds.skeleton import SkeletonItem


def _shown(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    posts = [item.post for item in page.items]
    owner = page.subject[0] if page.subject else None
    shown = {*shown_records(state, Place.LIST_FEED_ITEM, posts, beside=owner)}
    return [item for item in page.items if item.post in shown]


METHOD: Final[RowPages[SkeletonItem]] = feed_pages(list_feed, _shown)
