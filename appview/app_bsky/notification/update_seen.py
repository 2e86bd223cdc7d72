"""app.bsky.notification.updateSeen: the marker only moves forward, up to now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from protocol.syntax import datetime_us
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn
from storage.private.notification_settings import save_seen
from storage.private.sealing import Account

_OLDEST: Final = datetime(1, 1, 1, tzinfo=UTC)


def _write(conn: Conn, viewer: Account, params: Params) -> None:
    latest, oldest = to_micros(datetime.now(UTC)), to_micros(_OLDEST)
    seen_us = max(min(datetime_us(params["seenAt"]), latest), oldest)
    save_seen(conn, viewer, from_micros(seen_us))


METHOD: Final = PrivateWrite(_write)
