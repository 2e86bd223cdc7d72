"""app.bsky.notification.listActivitySubscriptions, the latest first."""

from __future__ import annotations

from typing import Final

from appview.paging import SearchPages
from appview.rules import Place
from appview.shapes.private.private_accounts import private_accounts
from storage.private.private_items import Kind

METHOD: Final[SearchPages[str]] = private_accounts(
    Kind.ACTIVITY_SUBSCRIPTION, "subscriptions", place=Place.ACTOR_HIT
)
