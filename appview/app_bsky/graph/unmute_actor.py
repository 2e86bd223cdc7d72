"""app.bsky.graph.unmuteActor."""

from __future__ import annotations

from typing import Final

from appview.shapes.procedure import PrivateChange
from appview.skeletons.named_accounts import find_muted_did
from storage.private.mutes import delete_mute

METHOD: Final[PrivateChange[str]] = PrivateChange(find_muted_did, delete_mute)
