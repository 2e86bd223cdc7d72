"""app.bsky.feed.getActorLikes: the viewer's own likes only."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.paging import Page, RowPages
from appview.rules import Place, shown_items
from appview.shapes.feed import feed_pages
from appview.skeletons.actor_likes import own_likes
from feeds.skeleton import SkeletonItem


def _shown(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    return shown_items(state, Place.POST, page.items)


METHOD: Final[RowPages[SkeletonItem]] = feed_pages(own_likes, _shown)
