"""app.bsky.actor.putPreferences: replaces all of the viewer's preferences."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from network.xrpc.server import XrpcError
from storage.postgres.pool import Conn
from storage.private.private_items import NO_SUBJECT, Kind, save_item
from storage.private.sealing import Account

_NAMESPACE: Final = "app.bsky."


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    values = params["preferences"]
    for value in values:
        if not str(value.get("$type", "")).startswith(_NAMESPACE):
            raise XrpcError(
                "InvalidRequest", f"each preference needs a $type of {_NAMESPACE}*", 400
            )
    now = datetime.now(UTC)
    save_item(conn, viewer, Kind.PREFERENCES, NO_SUBJECT, values, now, keep_time=False)


METHOD: Final = PrivateWrite(_write)
