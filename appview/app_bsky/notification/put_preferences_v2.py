"""app.bsky.notification.putPreferencesV2: changes the preferences that are given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from storage.postgres.pool import Conn
from storage.private.notification_settings import load_settings
from storage.private.private_items import NO_SUBJECT, Kind, save_item
from storage.private.sealing import Account

_KIND: Final = Kind.NOTIFICATION_PREFERENCES


def _write(conn: Conn, viewer: Account, params: Params) -> dict[str, Any]:
    settings = load_settings(conn, viewer)
    changed = replace(settings, preferences={**settings.preferences, **params}).view()
    save_item(conn, viewer, _KIND, NO_SUBJECT, changed, datetime.now(UTC))
    return {"preferences": changed}


METHOD: Final = PrivateWrite(_write)
