"""Posts that are created again under the key of a deleted post.

Such a post keeps only the edges that name its new CID. An edge holds no CID, so the
records of the edges are read once, and edges to the old post are kept as stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Final

from indexer.changes import Change
from indexer.counting import count_links
from protocol.data.cid import cid_for, cid_to_text
from storage.collections import (
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    LIKE_SUBJECT,
    QUOTE,
    QUOTE_WITH_MEDIA,
    REPLY_PARENT,
    REPOST_SUBJECT,
)
from storage.postgres.arrays import int_columns
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.distant_replies import settle_distant_replies
from storage.records.links import delete_links, find_packed
from storage.records.record_rows import fetch_pieces
from storage.records.stats import DELETIONS, StatsChange
from storage.records.uncounted_links import make_stale

MAX_EDGES: Final = 10_000
"""Maximum edges of one kind that are compared; those beyond still count."""

_POST: Final = COLLECTION_IDS[FEED_POST]
_SOURCES: Final = {
    LIKE_SUBJECT: COLLECTION_IDS[FEED_LIKE],
    REPOST_SUBJECT: COLLECTION_IDS[FEED_REPOST],
    REPLY_PARENT: _POST,
    QUOTE: _POST,
    QUOTE_WITH_MEDIA: _POST,
}

Post = tuple[int, int]
"""(actor, rkey)."""


def note_posts(conn: Conn, changes: Sequence[Change], ended: Set[Post]) -> StatsChange:
    """Make edges to earlier posts stale, after these changes are written.

    `ended` were deleted within the batch, and may exist again. Returns the changes of
    counts: deletions of posts, and edges that no longer count.
    """
    stats = StatsChange()
    created: dict[Post, bytes] = {}
    again: dict[Post, bytes] = {}
    for change in changes:
        if change.collection != _POST:
            continue
        post = (change.actor, change.rkey)
        if change.new is None:
            stats.add_post(change.rkey, change.actor, DELETIONS, 1)
        elif change.old is None:
            created[post] = change.new
        elif post in ended:
            again[post] = change.new
    again |= _deleted_before(conn, created)
    for post, value in again.items():
        for path, collection in _SOURCES.items():
            _make_stale(conn, post, cid_for(value), path, collection, stats)
    return stats


def _deleted_before(conn: Conn, created: Mapping[Post, bytes]) -> dict[Post, bytes]:
    if not created:
        return {}
    rows = conn.execute(
        """
        SELECT s.actor, s.rkey FROM unnest(%s::int4[], %s::int8[]) AS d (actor, rkey)
        JOIN post_stats s ON s.rkey = d.rkey AND s.actor = d.actor
        WHERE s.deletions > 0
        """,
        int_columns(list(created), 2),
    )
    return {(actor, rkey): created[actor, rkey] for actor, rkey in rows}


def _make_stale(
    conn: Conn, post: Post, cid: bytes, path: int, collection: int, stats: StatsChange
) -> None:
    target = (post[0], _POST, post[1])
    edges = find_packed(conn, path, target, limit=MAX_EDGES)
    name = cid_to_text(cid).encode()
    addresses = {Address(row.actor, collection, row.rkey): row for row in edges}
    for _, records in fetch_pieces(conn, list(addresses)):
        for address, raw in records.items():
            # References hold the CID as text, so nothing has to be decoded.
            if name in raw:
                del edges[addresses[address]]
    if edges:
        removed = delete_links(conn, edges)
        make_stale(conn, removed, [edges[row] for row in removed])
        if path == REPLY_PARENT:
            # From the post, edges no longer lead to them.
            settle_distant_replies(conn, ((row.actor, row.rkey) for row in removed))
        count_links(stats, removed, -1)
