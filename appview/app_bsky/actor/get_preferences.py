"""app.bsky.actor.getPreferences: what the viewer's clients have stored here.

A PDS keeps preferences itself, and sends the call here if a client names this service.
"""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateRead
from storage.postgres.pool import Conn
from storage.private.private_items import NO_SUBJECT, Kind, find_item
from storage.private.sealing import Account


def _read(conn: Conn, viewer: Account, _: Params) -> dict[str, Any]:
    held = find_item(conn, viewer, Kind.PREFERENCES, NO_SUBJECT)
    return {"preferences": held.value if held else []}


METHOD: Final = PrivateRead(_read)
