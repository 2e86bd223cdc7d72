"""app.bsky.graph.unmuteActor."""

from __future__ import annotations

from typing import Final

from appview.shapes.mute_target import find_target
from appview.shapes.procedure import PrivateChange
from storage.private.mutes import delete_mute

METHOD: Final[PrivateChange[str]] = PrivateChange(find_target, delete_mute)
