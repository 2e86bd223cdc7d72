"""Likes as they are now, for engines that hold those of the last write."""

from __future__ import annotations

from collections.abc import Iterable

from search.engines.encoding import address_of
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.pool import Pool
from storage.records.stats import fetch_post_stats

_POST = COLLECTION_IDS[FEED_POST]


def liked_posts(pool: Pool, ids: Iterable[str], least: int) -> set[str]:
    """Return the IDs of posts with at least so many likes."""
    addresses = {one: address_of(one) for one in ids}
    posts = {
        (a.actor, a.rkey): one for one, a in addresses.items() if a.collection == _POST
    }
    if not posts:
        return set()
    with pool.connection() as conn:
        stats = fetch_post_stats(conn, list(posts))
    return {posts[key] for key, found in stats.items() if found.likes >= least}
