"""app.bsky.notification.registerPush."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appview.shapes.private.push_device import DeviceChange
from storage.postgres.pool import Conn
from storage.private.push_registrations import Device, save_device
from storage.private.sealing import Account


def _write(conn: Conn, viewer: Account, device: Device) -> None:
    save_device(conn, viewer, device, datetime.now(UTC))


METHOD: Final = DeviceChange(_write)
