"""The pages of our own feeds."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from appview.app_bsky.feed import get_feed
from feeds.skeleton import Algorithm
from network.xrpc.server import XrpcError
from service.web.rendering import PAGE_SIZE, PageFrame, cursor_of, next_page
from storage.collections import FEED_GENERATOR


class FeedPages:
    """The list of our feeds, and the posts of one."""

    def __init__(self, frame: PageFrame) -> None:
        self._frame = frame

    def overview(self, _: Request) -> dict[str, Any]:
        """List the feeds of this provider."""
        did = self._frame.app.service_did
        return {"title": "Feeds", "feeds": self.algorithms(), "did": did}

    def feed(self, request: Request) -> dict[str, Any]:
        """Show a feed as getFeed returns it to signed-out readers."""
        name = request.path_params["name"]
        algorithm = {feed.name: feed for feed in self.algorithms()}.get(name)
        if algorithm is None:
            raise XrpcError("UnknownFeed", f"there is no feed {name[:80]!r}")
        values = {"title": algorithm.display_name, "algorithm": algorithm, "feed": []}
        if algorithm.personal:
            return values | {"next": None}
        context = self._frame.context(request, request.url.path)
        params = {"feed": self.uri(name), "limit": PAGE_SIZE}
        answer = get_feed.OWN_FEED.run(context, params | cursor_of(request))
        return values | {
            "feed": answer["feed"],
            "next": next_page(request, answer.get("cursor")),
        }

    def latest(self, request: Request, count: int) -> list[dict[str, Any]]:
        """Return the newest posts."""
        context = self._frame.context(request, "/")
        params = {"feed": self.uri("latest"), "limit": count}
        found: list[dict[str, Any]] = get_feed.OWN_FEED.run(context, params)["feed"]
        return found

    def algorithms(self) -> list[Algorithm]:
        """Return the provider's own feeds."""
        app = self._frame.app
        feeds = app.feeds.current(app.private, app.service_did)
        return [served.algorithm for served in feeds.own.values()]

    def uri(self, name: str) -> str:
        """Return the AT-URI of one of our feeds."""
        return f"at://{self._frame.app.service_did}/{FEED_GENERATOR}/{name}"
