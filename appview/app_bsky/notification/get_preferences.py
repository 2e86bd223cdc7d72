"""app.bsky.notification.getPreferences."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateRead
from storage.postgres.pool import Conn
from storage.private.notification_settings import load_settings
from storage.private.sealing import Account


def _read(conn: Conn, viewer: Account, _: Params) -> dict[str, Any]:
    return {"preferences": load_settings(conn, viewer).view()}


METHOD: Final = PrivateRead(_read)
