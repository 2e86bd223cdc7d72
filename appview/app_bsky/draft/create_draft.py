"""app.bsky.draft.createDraft."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any, Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from appview.views.common import datetime_text
from network.xrpc.server import XrpcError
from protocol.syntax import TidClock
from storage.postgres.pool import Conn
from storage.private.private_items import MOST, Kind, count_items, save_item
from storage.private.sealing import Account

_clock: Final = TidClock(secrets.randbelow(1024), lambda: time.time_ns() // 1_000)


def _write(conn: Conn, viewer: Account, params: Params) -> dict[str, Any]:
    if count_items(conn, viewer, Kind.DRAFT) >= MOST[Kind.DRAFT]:
        raise XrpcError("DraftLimitReached", "Drafts limit reached", 400)
    number = _clock.next()
    now = datetime.now(UTC)
    value = {
        "id": number,
        "draft": params["draft"],
        "createdAt": datetime_text(now),
    }
    save_item(conn, viewer, Kind.DRAFT, number, value, now)
    return {"id": number}


METHOD: Final = PrivateWrite(_write)
