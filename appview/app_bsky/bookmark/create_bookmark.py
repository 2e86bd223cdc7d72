"""app.bsky.bookmark.createBookmark."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite, require_uri_of
from storage.collections import FEED_POST
from storage.postgres.pool import Conn
from storage.private.private_items import Kind, find_item, save_item
from storage.private.sealing import Account

UNSUPPORTED: Final = "UnsupportedCollection"


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    uri = require_uri_of(params["uri"], FEED_POST, UNSUPPORTED)
    if find_item(conn, viewer, Kind.BOOKMARK, uri) is None:
        value = {"subject": uri, "cid": params["cid"]}
        save_item(conn, viewer, Kind.BOOKMARK, uri, value, datetime.now(UTC))


METHOD: Final = PrivateWrite(_write)
