"""Changes of counts that follow from links and rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from storage.collections import (
    BLOCK_SUBJECT,
    COLLECTION_IDS,
    FEED_POST,
    FOLLOW_SUBJECT,
    GRAPH_LIST,
    LIKE_SUBJECT,
    LISTITEM_LIST,
    NO_COLLECTION,
    QUOTE_PATHS,
    REPLY_PARENT,
    REPOST_SUBJECT,
)
from storage.records.links import LinkTuple
from storage.records.rows import RowTable
from storage.records.stats import (
    FOLLOWERS,
    FOLLOWS,
    ITEMS,
    LIKES,
    QUOTES,
    REPLIES,
    REPOSTS,
    StatsChange,
)

_POST: Final = COLLECTION_IDS[FEED_POST]
_LIST: Final = COLLECTION_IDS[GRAPH_LIST]


def count_links(stats: StatsChange, links: Iterable[LinkTuple], sign: int) -> None:
    """Add edges to the counts. A post quoted twice by one record counts once."""
    quotes: set[tuple[int, int, int, int]] | None = None
    for rkey, target_rkey, actor, target_actor, collection, path in links:
        if path == LIKE_SUBJECT:
            if collection == _POST:
                stats.add_post(target_rkey, target_actor, LIKES, sign)
            else:
                stats.add_subject(target_actor, collection, target_rkey, sign)
        elif path == FOLLOW_SUBJECT:
            if collection == NO_COLLECTION:
                stats.add_actor(target_actor, FOLLOWERS, sign)
                stats.add_actor(actor, FOLLOWS, sign)
        elif path == LISTITEM_LIST:
            if collection == _LIST and actor == target_actor:
                stats.add_subject(actor, collection, target_rkey, sign, ITEMS)
        elif collection != _POST:
            continue
        elif path == REPOST_SUBJECT:
            stats.add_post(target_rkey, target_actor, REPOSTS, sign)
        elif path == REPLY_PARENT:
            stats.add_post(target_rkey, target_actor, REPLIES, sign)
        elif path in QUOTE_PATHS:
            if quotes is None:
                quotes = set()
            edge = (actor, rkey, target_actor, target_rkey)
            if edge not in quotes:
                quotes.add(edge)
                stats.add_post(target_rkey, target_actor, QUOTES, sign)


def count_edges(
    stats: StatsChange,
    path: int,
    actors: Iterable[int],
    targets: Iterable[int],
    target_rkeys: Iterable[int],
) -> None:
    """Add edges by column: likes and reposts of posts, follows and blocks."""
    if path == FOLLOW_SUBJECT:
        for actor, times in Counter(targets).items():
            stats.add_actor(actor, FOLLOWERS, times)
        for actor, times in Counter(actors).items():
            stats.add_actor(actor, FOLLOWS, times)
    elif path != BLOCK_SUBJECT:
        count = LIKES if path == LIKE_SUBJECT else REPOSTS
        posts = Counter(zip(target_rkeys, targets, strict=True))
        for (rkey, actor), times in posts.items():
            stats.add_post(rkey, actor, count, times)


def count_rows(
    stats: StatsChange, table: RowTable, actors: Iterable[int], sign: int
) -> None:
    """Add rows of a table to the counts of their accounts."""
    if table.count is not None:
        for actor in actors:
            stats.add_actor(actor, table.count, sign)
