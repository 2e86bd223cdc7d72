"""The feeds that this provider serves, by record key."""

from __future__ import annotations

from feeds.algorithms import following, latest, popular
from feeds.for_you.for_you_feed import FEED as FOR_YOU
from feeds.skeleton import Algorithm

FEEDS: dict[str, Algorithm] = {
    feed.name: feed for feed in (latest.FEED, popular.FEED, following.FEED, FOR_YOU)
}
