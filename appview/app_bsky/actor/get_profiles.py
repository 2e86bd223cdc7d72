"""app.bsky.actor.getProfiles."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.pipeline import Pipeline
from appview.rules import Place, shown_actors
from appview.skeletons.named_accounts import find_accounts
from appview.views.detailed_profile import profile_view_detailed

METHOD: Final[Pipeline[list[int]]] = Pipeline(
    skeleton=find_accounts,
    hydrate=State.load_profiles,
    rules=lambda state, actors: shown_actors(state, Place.ACTOR, actors),
    present=lambda state, actors, _: {
        "profiles": [profile_view_detailed(state, state.actors[a]) for a in actors]
    },
)
