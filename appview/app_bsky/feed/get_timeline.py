"""app.bsky.feed.getTimeline: replies are for the client to filter."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.feed import feed_pages
from appview.skeletons.timelines import home_timeline
from feeds.skeleton import SkeletonItem

METHOD: Final[RowPages[SkeletonItem]] = feed_pages(home_timeline, auth="required")
