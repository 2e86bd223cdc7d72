"""app.bsky.notification.putActivitySubscription."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from network.xrpc.server import XrpcError
from storage.postgres.pool import Conn
from storage.private.private_items import Kind, delete_item, save_item
from storage.private.private_state import POSTS, REPLIES
from storage.private.sealing import Account


def _write(conn: Conn, viewer: Account, params: Params) -> dict[str, Any]:
    subject, asked = params["subject"], params["activitySubscription"]
    if subject == viewer.did:
        raise XrpcError("InvalidRequest", "Cannot subscribe to own activity", 400)
    flags = POSTS * asked["post"] | REPLIES * asked["reply"]
    if not flags:
        delete_item(conn, viewer, Kind.ACTIVITY_SUBSCRIPTION, subject)
        return {"subject": subject}
    save_item(
        conn,
        viewer,
        Kind.ACTIVITY_SUBSCRIPTION,
        subject,
        {"subject": subject},
        datetime.now(UTC),
        flags=flags,
    )
    return {"subject": subject, "activitySubscription": asked}


METHOD: Final = PrivateWrite(_write)
