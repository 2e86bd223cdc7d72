"""app.bsky.notification.putPreferences: the first version, with `priority` only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from storage.postgres.pool import Conn
from storage.private.private_items import NO_SUBJECT, Kind, save_item
from storage.private.sealing import Account


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    priority: bool = params["priority"]
    value = {"priority": priority}
    now = datetime.now(UTC)
    save_item(conn, viewer, Kind.PRIORITY, NO_SUBJECT, value, now, flags=int(priority))


METHOD: Final = PrivateWrite(_write)
