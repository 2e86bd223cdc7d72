"""Explanations of a feed in Python: the place of a post, or why it is not in."""

from __future__ import annotations

from feeds.serving.explaining import Explanation
from feeds.serving.post_facts import find_existing
from feeds.serving.recipe_feed import find_left_out
from feeds.skeleton import Ranking
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses


def explain_place(
    conn: Conn, ranking: Ranking, uri: str, viewer: int | None
) -> Explanation:
    """Explain a post of a ranking, by its AT-URI."""
    post = find_addresses(conn, [uri]).get(uri)
    if post is None:
        return Explanation(None, ("the index does not know this record",))
    faults = _find_faults(conn, ranking, viewer)
    if post in faults:
        return Explanation(None, (faults[post],))
    shown = [item for item in ranking.items if item.post not in faults]
    for rank, item in enumerate(shown, 1):
        if item.post == post:
            reason = item.feed_context
            named = (f"its reason: {reason}",) if reason else ()
            return Explanation(rank, ("the file returned it", *named))
    return Explanation(None, ("the file did not return it", *ranking.notes))


def explain_no_posts(conn: Conn, ranking: Ranking, viewer: int | None) -> list[str]:
    """Return the reasons why a ranking shows nothing; empty if it shows some."""
    faults = _find_faults(conn, ranking, viewer)
    if len(faults) < len(ranking):
        return []
    counts: dict[str, int] = {}
    for reason in faults.values():
        counts[reason] = counts.get(reason, 0) + 1
    reasons = [f"{reason}: {count}" for reason, count in sorted(counts.items())]
    return [*reasons, *ranking.notes] or ["the file returned no posts"]


def _find_faults(
    conn: Conn, ranking: Ranking, viewer: int | None
) -> dict[Address, str]:
    """Return the posts that may not be shown, each with the reason."""
    posts = [item.post for item in ranking.items]
    existing = find_existing(conn, posts)
    out = find_left_out(conn, {post.actor for post in existing}, viewer)
    faults: dict[Address, str] = {}
    for post in posts:
        if post not in existing:
            faults[post] = "the post was deleted, or its account is not shown"
        elif post.actor in out:
            faults[post] = "its author has opted out of algorithmic feeds"
    return faults
