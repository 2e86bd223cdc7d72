"""Local posts in threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pds.read_after_write.feeds import Query
from pds.read_after_write.local_records import LocalPost
from pds.read_after_write.simple_views import LocalViews, View

_THREAD_POST: Final = "app.bsky.feed.defs#threadViewPost"


def update_thread(views: LocalViews, answer: View, query: Query) -> View:
    """Insert new replies into getPostThread."""
    if answer["thread"].get("$type") != _THREAD_POST:
        return answer
    return answer | {"thread": _add_posts(views, answer["thread"], views.local.posts)}


def find_post(local: Sequence[LocalPost], uri: str) -> LocalPost | None:
    """Return the local post of an AT-URI."""
    return next((post for post in local if post.uri == uri), None)


def make_thread(views: LocalViews, post: LocalPost, parent: View | None) -> View:
    """Return the answer of getPostThread for a post that the indexer lacks."""
    thread = _show(views, post)
    if parent is not None:
        thread["parent"] = parent
    return {"thread": _add_posts(views, thread, views.local.posts)}


def _add_posts(views: LocalViews, thread: View, posts: Iterable[LocalPost]) -> View:
    post = thread["post"]
    roots = {post["uri"]}
    reply = post["record"].get("reply")
    if reply is not None:
        roots.add(reply["root"]["uri"])
    for local in posts:
        if local.root in roots:
            thread = _insert(views, thread, local)
    return thread


def _insert(views: LocalViews, thread: View, post: LocalPost) -> View:
    """Return a thread with a post below its parent, if that is shown."""
    replies: list[View] = thread.get("replies", [])
    if thread["post"]["uri"] == post.parent:
        if any(reply.get("post", {}).get("uri") == post.uri for reply in replies):
            return thread
        return thread | {"replies": [_show(views, post), *replies]}
    if not replies:
        return thread
    return thread | {
        "replies": [
            _insert(views, reply, post) if reply.get("$type") == _THREAD_POST else reply
            for reply in replies
        ]
    }


def _show(views: LocalViews, post: LocalPost) -> View:
    return {"$type": _THREAD_POST, "post": views.show_post(post)}
