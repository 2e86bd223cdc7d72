"""app.bsky.graph.getMutes: the accounts that the viewer mutes, the latest first."""

from __future__ import annotations

from typing import Final

from appview.paging import SearchPages
from appview.rules import Place
from appview.shapes.private.private_accounts import private_accounts
from storage.private.mutes import FULL_MUTE
from storage.private.private_items import Kind

METHOD: Final[SearchPages[str]] = private_accounts(
    Kind.MUTE, "mutes", place=Place.ACTOR, flags=FULL_MUTE.flags
)
