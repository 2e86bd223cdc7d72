"""app.bsky.bookmark.deleteBookmark."""

from __future__ import annotations

from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite, require_uri_of
from storage.collections import FEED_POST
from storage.postgres.pool import Conn
from storage.private.private_items import Kind, delete_item
from storage.private.sealing import Account

UNSUPPORTED: Final = "UnsupportedCollection"


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    uri = require_uri_of(params["uri"], FEED_POST, UNSUPPORTED)
    delete_item(conn, viewer, Kind.BOOKMARK, uri)


METHOD: Final = PrivateWrite(_write)
