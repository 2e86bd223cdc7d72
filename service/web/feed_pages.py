"""The pages of served feeds: the gallery, and the posts of one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request

from appview.app_bsky.feed import get_feed, get_feed_generators
from appview.session import RequestContext
from appview.shapes.feed_preview import preview_feed
from appview.skeletons.generators import find_served, only_published
from feeds.served_feeds import FeedSet, ServedFeed
from feeds.skeleton import Algorithm
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from service.web.rendering import PAGE_SIZE, PageFrame, cursor_of, next_page
from storage.collections import FEED_GENERATOR
from storage.private.feeds.feed_hours import FeedHour, read_hours_of, total_by_feed

GALLERY: Final = 12
"""Feeds of one page."""
PREVIEW: Final = 3
"""Posts of a feed in the gallery."""
_PREVIEWS_S: Final = 2.0
"""Seconds after which further feeds of a page are shown without posts."""
_COUNTED: Final = timedelta(days=1)


@dataclass(slots=True)
class Card:
    """A feed in the gallery. `view` is its hydrated record, None if there is none."""

    key: tuple[str, str]
    uri: str
    algorithm: Algorithm
    view: dict[str, Any] | None = None
    stats: FeedHour | None = None
    posts: list[dict[str, Any]] = field(default_factory=list)
    fault: str | None = None

    @property
    def path(self) -> str:
        """Return the path of the feed's page."""
        owner, rkey = (quote(part, safe=":") for part in self.key)
        return f"/feed/{owner}/{rkey}" if owner else f"/feed/{rkey}"


class FeedPages:
    """The gallery of all feeds, and the posts of one."""

    def __init__(self, frame: PageFrame) -> None:
        self._frame = frame

    def gallery(self, request: Request) -> dict[str, Any]:
        """Show feeds with their authors, first posts and statistics."""
        context = self._frame.context(request, request.url.path)
        feeds = context.feeds()
        start = _place_after(feeds, request.query_params.get("cursor"))
        keys = feeds.keys[start : start + GALLERY]
        cards = self._make_cards(context, feeds, keys)
        more = start + GALLERY < len(feeds.keys)
        return {
            "title": "Feeds",
            "cards_shown": cards,
            "did": self._frame.app.service_did,
            "next": next_page(request, "/".join(keys[-1]) if more else None),
        }

    def feed(self, request: Request) -> dict[str, Any]:
        """Show a feed as getFeed returns it to signed-out readers."""
        name = request.path_params["name"]
        owner = request.path_params.get("owner", self._frame.app.service_did)
        served = self._find(request, owner, name)
        algorithm = served.algorithm
        values = {"title": algorithm.display_name, "algorithm": algorithm, "feed": []}
        if algorithm.personal:
            return values | {"next": None}
        context = self._frame.context(request, request.url.path)
        params = {"feed": f"at://{owner}/{FEED_GENERATOR}/{name}", "limit": PAGE_SIZE}
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

    def _find(self, request: Request, owner: str, name: str) -> ServedFeed:
        """Return a feed. Raises XrpcError."""
        served = None
        context = self._frame.context(request, request.url.path)
        if is_did(owner) and context.feeds().find(owner, name, context.app.service_did):
            with context.session() as session:
                served = find_served(session, f"at://{owner}/{FEED_GENERATOR}/{name}")
        if served is None:
            raise XrpcError("UnknownFeed", f"there is no feed {name[:80]!r}")
        return served

    def _make_cards(
        self, context: RequestContext, feeds: FeedSet, keys: Sequence[tuple[str, str]]
    ) -> list[Card]:
        did = context.app.service_did
        found = [
            Card(
                (owner, rkey),
                f"at://{owner or did}/{FEED_GENERATOR}/{rkey}",
                (feeds.others[owner, rkey] if owner else feeds.own[rkey]).algorithm,
            )
            for owner, rkey in keys
        ]
        with context.session() as session:
            hosted = [card.uri for card in found if card.key[0]]
            shown = {*only_published(session, hosted)}
        cards = {card.uri: card for card in found if not card.key[0]}
        cards |= {card.uri: card for card in found if card.uri in shown}
        for view in _load_views(context, [*cards]):
            cards[view["uri"]].view = view
        since = datetime.now(UTC) - _COUNTED
        with context.app.private.read() as conn:
            for total in total_by_feed(read_hours_of(conn, since, [*cards])):
                cards[total.feed].stats = total
        until = monotonic() + _PREVIEWS_S
        for card in cards.values():
            if monotonic() < until and not card.algorithm.personal:
                self._preview(context, card)
        return [*cards.values()]

    def _preview(self, context: RequestContext, card: Card) -> None:
        params = {"feed": card.uri, "limit": PREVIEW}
        try:
            page = preview_feed(context, card.algorithm, params)
        except XrpcError as error:
            # One feed that fails hides no other one.
            card.fault = error.message
        else:
            card.posts = [item["post"] for item in page["feed"]]


def _load_views(context: RequestContext, uris: list[str]) -> list[dict[str, Any]]:
    if not uris:
        return []
    body = get_feed_generators.METHOD.run(context, {"feeds": uris})
    found: list[dict[str, Any]] = body["feeds"]
    return found


def _place_after(feeds: FeedSet, cursor: str | None) -> int:
    """Return the place of the first feed after the last one of a page."""
    if cursor is None:
        return 0
    owner, _, rkey = cursor.partition("/")
    return bisect_right(feeds.keys, (owner, rkey))
