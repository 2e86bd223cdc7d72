"""app.bsky.feed.sendInteractions: what a reader did with items of our feeds.

Seen posts and requests to see less or more are stored, encrypted, with the reader's
private state. Other events are counted for the feed and name nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from appview.own_feeds import make_records
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import private_account_of
from appview.skeletons.generators import find_served
from network.xrpc.server import AuthMode, XrpcError
from protocol.errors import InvalidSyntaxError
from protocol.syntax import parse_at_uri
from storage.collections import FEED_POST
from storage.private.feeds.feed_feedback import (
    LESS,
    MORE,
    Interaction,
    save_interactions,
)
from storage.private.feeds.feed_hours import INTERACTIONS
from storage.private.private_items import Kind

MAX_INTERACTIONS: Final = 500
"""Interactions of one request."""
_PREFIX: Final = "app.bsky.feed.defs#"
_STORED: Final[dict[str, tuple[Kind, int]]] = {
    f"{_PREFIX}interactionSeen": (Kind.FEED_SEEN, 0),
    f"{_PREFIX}requestLess": (Kind.FEED_REQUEST, LESS),
    f"{_PREFIX}requestMore": (Kind.FEED_REQUEST, MORE),
}
_KEPT: Final = ("feedContext", "reqId")


class _SendInteractions(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        account = private_account_of(context)
        sent: list[dict[str, Any]] = params["interactions"]
        if len(sent) > MAX_INTERACTIONS:
            raise XrpcError(
                "InvalidRequest",
                f"at most {MAX_INTERACTIONS} interactions a request",
                400,
            )
        feed = _find_feed(context, params)
        known = [
            one for one in sent if one.get("event") in INTERACTIONS and _is_post(one)
        ]
        stored = [
            Interaction(kind, one["item"], _value(one, feed), flags)
            for one in known
            if one["event"] in _STORED
            for kind, flags in (_STORED[one["event"]],)
        ]
        if stored:
            with context.app.private.write() as conn:
                save_interactions(conn, account, stored, datetime.now(UTC))
        if feed is not None and known:
            events = [one["event"] for one in known]
            context.app.feed_counters.count_interactions(feed, events)
        return {}


def _find_feed(context: RequestContext, params: Params) -> str | None:
    """Return the feed that is named, or that the first request id names."""
    feed = params.get("feed")
    if feed is not None:
        with context.session(private=False) as session:
            if find_served(session, feed) is None:
                raise XrpcError(
                    "UnknownFeed",
                    f"this provider does not serve {feed}: name its service in"
                    " atproto-proxy",
                    400,
                )
        return str(feed)
    own = make_records(context.feeds(), context.app.service_did)
    for one in params["interactions"]:
        name = str(one.get("reqId", "")).rpartition(".")[0]
        if name in own:
            return own[name].uri
    return None


def _is_post(interaction: dict[str, Any]) -> bool:
    try:
        return parse_at_uri(interaction.get("item", "")).collection == FEED_POST
    except InvalidSyntaxError:
        return False


def _value(interaction: dict[str, Any], feed: str | None) -> dict[str, Any]:
    value = {name: interaction[name] for name in _KEPT if name in interaction}
    return value | {
        "event": interaction["event"],
        **({} if feed is None else {"feed": feed}),
    }


METHOD: Final = _SendInteractions()
