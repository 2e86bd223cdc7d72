"""app.bsky.graph.muteThread."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite, require_uri_of
from storage.collections import FEED_POST
from storage.postgres.pool import Conn
from storage.private.private_items import Kind, save_item
from storage.private.sealing import Account


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    uri = require_uri_of(params["root"], FEED_POST)
    value = {"subject": uri}
    save_item(conn, viewer, Kind.THREAD_MUTE, uri, value, datetime.now(UTC))


METHOD: Final = PrivateWrite(_write)
