"""app.bsky.feed.getLikes."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import LIKE
from appview.hydration.state import State
from appview.paging import RowPages
from appview.rules import Place, shown_actors
from appview.shapes.reactions import ReactionPage, reaction_pages
from appview.views.common import created_text, datetime_text
from appview.views.profile import profile_view
from storage.collections import LIKE_SUBJECT
from storage.records.addresses import Address
from storage.records.backlinks import LinkSource


def _load(state: State, page: ReactionPage) -> None:
    state.load_records(map(_address, page.items), name=False)


def _shown(state: State, page: ReactionPage) -> list[int]:
    author = page.subject[0] if page.subject else None
    likers = [link.actor for link in page.items]
    return shown_actors(state, Place.LIKE, likers, beside=author)


def _view(state: State, like: LinkSource) -> dict[str, Any]:
    record = state.records.get(_address(like))
    indexed = datetime_text(like.sort_at)
    return {
        "actor": profile_view(state, state.actors[like.actor]),
        "createdAt": created_text(record.value) if record else indexed,
        "indexedAt": indexed,
    }


def _address(like: LinkSource) -> Address:
    return Address(like.actor, LIKE, like.rkey)


METHOD: Final[RowPages[LinkSource]] = reaction_pages(
    LIKE_SUBJECT, "likes", hydrate=_load, rules=_shown, view=_view
)
