"""app.bsky.graph.getKnownFollowers: followers of an account whom the viewer follows."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.known_followers import load_known_followers
from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.refusals import refuse_subject
from appview.rules import Place, shown_actors
from appview.session import Session
from appview.skeletons.named_accounts import require_account
from appview.views.profile import profile_view


def _source(session: Session, params: Params) -> Source[int]:
    subject = require_account(session, params["actor"])
    viewer = session.viewer_actor

    def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
        if viewer is None:
            return []
        found = load_known_followers(session.conn, viewer, [subject]).get(subject, [])
        start = after[0] if after else 0
        return [Entry(a, [n]) for n, a in enumerate(found, 1)][start : start + limit]

    return Source(fetch, [subject], params["actor"])


def _load(state: State, page: Page[int]) -> None:
    state.load_actors([*page.subject, *page.items])


def _shown(state: State, page: Page[int]) -> list[int]:
    refuse_subject(state, page.subject[0], page.query_text)
    return shown_actors(state, Place.FOLLOW, page.items)


def _present(state: State, page: Page[int], _: Params) -> dict[str, Any]:
    return {
        "subject": profile_view(state, state.actors[page.subject[0]]),
        "followers": [profile_view(state, state.actors[a]) for a in page.items],
    }


METHOD: Final[RowPages[int]] = RowPages(
    _source, Steps(_load, _shown, _present), auth="required"
)
