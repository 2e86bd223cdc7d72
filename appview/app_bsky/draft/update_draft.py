"""app.bsky.draft.updateDraft: a draft that does not exist is not created."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from storage.postgres.pool import Conn
from storage.private.private_items import Kind, find_item, save_item
from storage.private.sealing import Account


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    number: str = params["draft"]["id"]
    held = find_item(conn, viewer, Kind.DRAFT, number)
    if held is not None:
        value = held.value | {"draft": params["draft"]["draft"]}
        now = datetime.now(UTC)
        save_item(conn, viewer, Kind.DRAFT, number, value, now, keep_time=False)


METHOD: Final = PrivateWrite(_write)
