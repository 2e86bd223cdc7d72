"""Saved searches as JSON, and the keys of their streams."""

from __future__ import annotations

from typing import Any, Final

from appview.views.common import datetime_text
from network.errors import XrpcError
from network.xrpc.cursor import open_cursor, seal_cursor
from storage.private.match_webhooks import MatchWebhook
from storage.private.saved_searches import SavedSearch

_SCOPE: Final = "bigworld.search.matches"


def stream_key(secret: bytes, search: int) -> str:
    """Return the key that opens the matches of a search."""
    return seal_cursor(secret, [search], scope=_SCOPE)


def open_stream_key(secret: bytes, key: str) -> int:
    """Return the search of a key. Raises XrpcError."""
    try:
        [search] = open_cursor(secret, key, scope=_SCOPE)
    except XrpcError:
        raise XrpcError("InvalidKey", "key is malformed or not ours", 400) from None
    return int(search)


def read_search_id(text: str) -> int:
    """Return the number in the ID of a saved search, 0 for no possible one."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 18
    return int(text) if is_number else 0


def saved_search_view(
    secret: bytes, search: SavedSearch, webhook: MatchWebhook | None
) -> dict[str, Any]:
    """Return a savedSearch."""
    view: dict[str, Any] = {
        "id": str(search.id),
        "query": search.query,
        "collections": [*search.collections],
        "savedAt": datetime_text(search.saved_at),
        "streamKey": stream_key(secret, search.id),
    }
    if search.name:
        view["name"] = search.name
    if search.paused_at is not None:
        view["pausedAt"] = datetime_text(search.paused_at)
    if webhook is not None:
        view["webhook"] = _webhook_view(webhook)
    return view


def _webhook_view(webhook: MatchWebhook) -> dict[str, str]:
    status = "failing" if webhook.failures else "active"
    view = {"url": webhook.url, "status": status}
    if webhook.error:
        view["error"] = webhook.error
    if webhook.stopped_at is not None:
        view |= {"status": "stopped", "stoppedAt": datetime_text(webhook.stopped_at)}
    return view
