"""app.bsky.notification.unregisterPush."""

from __future__ import annotations

from typing import Final

from appview.shapes.private.push_device import DeviceChange
from storage.private.push_registrations import delete_device

METHOD: Final = DeviceChange(delete_device)
