"""Followers of an account whom the viewer follows, inside its view."""

from __future__ import annotations

from typing import Any

from appview.hydration.known_followers import MAX_SHOWN
from appview.hydration.state import State
from appview.rules import Place, shown_actors
from appview.views.profile import profile_view, profile_view_basic


def known_profile_view(state: State, actor: int) -> dict[str, Any]:
    """Return an entry in a list of accounts, with its known followers."""
    return with_known_followers(state, actor, profile_view(state, state.actors[actor]))


def with_known_followers(
    state: State, actor: int, view: dict[str, Any]
) -> dict[str, Any]:
    """Add the known followers to the view of an account, if they were loaded."""
    known = state.known_followers.get(actor)
    if not known or "viewer" not in view:
        return view
    shown = shown_actors(state, Place.FOLLOW, known[:MAX_SHOWN], beside=actor)
    followers = [profile_view_basic(state, state.actors[other]) for other in shown]
    counted = {"count": len(known), "followers": followers}
    return {**view, "viewer": {**view["viewer"], "knownFollowers": counted}}
