"""app.bsky.graph.getSuggestedFollowsByActor."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.suggested import account_suggestions, present_known
from appview.skeletons.named_accounts import require_account
from appview.skeletons.suggestions import similar_accounts

METHOD: Final[RowPages[int]] = account_suggestions(
    present_known("suggestions"),
    ranking=lambda session, params, _: similar_accounts(
        session, require_account(session, params["actor"])
    ),
)
