"""Local posts in feeds, and the new profile in views of its account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pds.read_after_write.local_records import LocalPost
from pds.read_after_write.simple_views import EMBED, LocalViews, View
from protocol.errors import InvalidSyntaxError
from protocol.syntax.datetime import datetime_us

Query = Mapping[str, str]

_PIN: Final = "app.bsky.feed.defs#reasonPin"
_MEDIA: Final = {
    "posts_with_media": f"{EMBED}.images",
    "posts_with_video": f"{EMBED}.video",
}
"""Filter of an author feed -> type of the embeds that it lets through."""


def update_profile(views: LocalViews, answer: View, query: Query) -> View:
    """Update getProfile."""
    return views.update_profile(answer)


def update_profiles(views: LocalViews, answer: View, query: Query) -> View:
    """Update getProfiles."""
    return answer | {"profiles": [views.update_profile(p) for p in answer["profiles"]]}


def update_likes(views: LocalViews, answer: View, query: Query) -> View:
    """Update the authors of getActorLikes."""
    return answer | {"feed": _update_authors(views, answer["feed"])}


def update_timeline(views: LocalViews, answer: View, query: Query) -> View:
    """Insert new posts into getTimeline."""
    return answer | {"feed": _insert(views, answer["feed"], views.local.posts, query)}


def update_author_feed(views: LocalViews, answer: View, query: Query) -> View:
    """Insert new posts into the getAuthorFeed of the account itself."""
    account = views.local.account
    if query.get("actor", "").lower() not in (account.did, account.handle):
        return answer
    wanted = query.get("filter", "")
    posts = [post for post in views.local.posts if _passes(post, wanted, views.did)]
    feed = _update_authors(views, answer["feed"])
    return answer | {"feed": _insert(views, feed, posts, query)}


def _passes(post: LocalPost, wanted: str, did: str) -> bool:
    """Return True if a filter of getAuthorFeed lets a post through."""
    if wanted == "posts_no_replies":
        return post.parent is None
    if wanted == "posts_and_author_threads":
        own = f"at://{did}/"
        return all(
            uri is None or uri.startswith(own) for uri in (post.root, post.parent)
        )
    if wanted in _MEDIA:
        embed: Any = post.record.get("embed") or {}
        return _MEDIA[wanted] in (
            embed.get("$type"),
            embed.get("media", {}).get("$type"),
        )
    return True


def _update_authors(views: LocalViews, feed: list[View]) -> list[View]:
    return [
        item | {"post": post | {"author": views.update_author(post["author"])}}
        for item in feed
        for post in (item["post"],)
    ]


def _insert(
    views: LocalViews, feed: list[View], posts: Iterable[LocalPost], query: Query
) -> list[View]:
    """Return a first page with posts at their places, without those that it has.

    Later pages stay: posts that are newer than they are belong to the first one.
    """
    if "cursor" in query:
        return feed
    there = {item["post"]["uri"] for item in feed}
    end = _time(feed[-1]) if feed else 0
    for post in posts:
        if post.uri in there or post.indexed_us <= end:
            continue
        place = next(
            (
                number
                for number, item in enumerate(feed)
                if not _is_pinned(item) and _time(item) < post.indexed_us
            ),
            len(feed),
        )
        feed = [*feed[:place], {"post": views.show_post(post)}, *feed[place:]]
    return feed


def _is_pinned(item: View) -> bool:
    return bool(item.get("reason", {}).get("$type") == _PIN)


def _time(item: View) -> int:
    try:
        return datetime_us(item["post"]["indexedAt"])
    except InvalidSyntaxError:
        return 0
