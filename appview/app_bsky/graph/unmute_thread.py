"""app.bsky.graph.unmuteThread."""

from __future__ import annotations

from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from storage.postgres.pool import Conn
from storage.private.private_items import Kind, delete_item
from storage.private.sealing import Account


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    delete_item(conn, viewer, Kind.THREAD_MUTE, params["root"])


METHOD: Final = PrivateWrite(_write)
