"""app.bsky.graph.getSuggestedFollowsByActor."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.suggested import account_suggestions
from appview.skeletons.named_accounts import require_account
from appview.skeletons.suggestions import similar_accounts
from appview.views.profile import profile_view

METHOD: Final[RowPages[int]] = account_suggestions(
    lambda state, page, _: {
        "suggestions": [profile_view(state, state.actors[a]) for a in page.items]
    },
    ranking=lambda session, params, _: similar_accounts(
        session, require_account(session, params["actor"])
    ),
)
