"""The page of a post, with the posts above it and the replies below."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request

from appview.app_bsky.feed import get_post_thread
from network.xrpc.server import XrpcError
from protocol.syntax import is_at_uri, is_record_key, parse_at_uri
from service.web.rendering import PageFrame, account_name
from storage.collections import FEED_POST

DEPTH: Final = 6
"""Levels of replies on one page; a link continues a deeper thread."""
HEIGHT: Final = 20


class ThreadPage:
    """A post with its parents and replies."""

    def __init__(self, frame: PageFrame) -> None:
        self._frame = frame

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        name, rkey = account_name(request), request.path_params["rkey"]
        if not is_record_key(rkey):
            raise XrpcError("NotFound", f"{rkey[:80]!r} is not a record key")
        uri = f"at://{name}/{FEED_POST}/{rkey}"
        context = self._frame.context(request, request.url.path)
        params = {"uri": uri, "depth": DEPTH, "parentHeight": HEIGHT}
        thread = get_post_thread.METHOD.run(context, params)["thread"]
        above: list[dict[str, Any]] = []
        parent = thread.get("parent")
        while parent is not None:
            above.insert(0, parent)
            parent = parent.get("parent")
        return {
            "title": _title(thread),
            "thread": thread,
            "above": above,
            "earlier": find_earlier([*above, thread][0]),
        }


def _title(thread: dict[str, Any]) -> str:
    author = thread.get("post", {}).get("author")
    if author is None:
        return "Post"
    return f"Post by {author.get('displayName') or author['handle']}"


def find_earlier(first: dict[str, Any]) -> str | None:
    """Return the AT-URI of the post above the first one, if there is one."""
    reply = first.get("post", {}).get("record", {}).get("reply")
    parent = reply.get("parent") if isinstance(reply, dict) else None
    uri = parent.get("uri") if isinstance(parent, dict) else None
    if not isinstance(uri, str) or not is_at_uri(uri):
        return None
    parsed = parse_at_uri(uri)
    is_post = parsed.collection == FEED_POST and parsed.rkey is not None
    return f"at://{parsed.authority}/{FEED_POST}/{parsed.rkey}" if is_post else None
