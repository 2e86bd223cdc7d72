"""The accounts that may subscribe to the activity of another."""

from __future__ import annotations

from typing import Final

from appview.hydration.actors import Relation
from appview.hydration.records import NOTIFICATION_DECLARATION
from appview.hydration.state import State

_FROM_FOLLOWERS: Final = "followers"
_FROM_MUTUALS: Final = "mutuals"
_FROM_NOBODY: Final = "none"
_SUBSCRIBERS: Final = frozenset({_FROM_FOLLOWERS, _FROM_MUTUALS, _FROM_NOBODY})


def allowed_subscribers(state: State, actor: int) -> str:
    """Return the declaration of a loaded account, or the lexicon's default."""
    record = state.declarations.get((actor, NOTIFICATION_DECLARATION))
    allowed = record.value.get("allowSubscriptions") if record else None
    return allowed if allowed in _SUBSCRIBERS else _FROM_FOLLOWERS


def may_subscribe(state: State, actor: int) -> bool:
    """Return True if a loaded account lets the viewer subscribe to its activity."""
    relation = state.relations.get(actor) or Relation()
    allowed = allowed_subscribers(state, actor)
    if allowed == _FROM_MUTUALS and relation.followed_by is None:
        return False
    return allowed != _FROM_NOBODY and relation.following is not None
