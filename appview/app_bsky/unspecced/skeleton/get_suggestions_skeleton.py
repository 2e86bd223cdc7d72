"""app.bsky.unspecced.getSuggestionsSkeleton."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page
from appview.pipeline import Params
from appview.session import Session
from appview.shapes.skeleton import Skeleton, skeleton_actors
from appview.shapes.suggested import account_suggestions
from appview.skeletons.suggestions import similar_accounts, suggested_accounts


def _ranking(
    session: Session, params: Params, after: Keyset | None
) -> list[Entry[int]]:
    if "relativeToDid" not in params:
        return suggested_accounts(session, after)
    actor = session.find_actor(params["relativeToDid"])
    return [] if actor is None else similar_accounts(session, actor)


def _present(state: State, page: Page[int], params: Params) -> dict[str, Any]:
    about = {k: v for k, v in params.items() if k == "relativeToDid"}
    return skeleton_actors(state, page, params) | about


METHOD: Final = Skeleton(
    account_suggestions(_present, ranking=_ranking, has_cursor=True)
)
