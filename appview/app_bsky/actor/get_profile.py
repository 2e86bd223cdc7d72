"""app.bsky.actor.getProfile."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.refusals import refuse_profile
from appview.skeletons.named_accounts import find_accounts
from appview.views.detailed_profile import profile_view_detailed
from network.xrpc.server import XrpcError


def _refuse(state: State, actors: list[int]) -> list[int]:
    for actor in actors:
        refuse_profile(state, actor)
    return actors


def _present(state: State, actors: list[int], _: Params) -> dict[str, Any]:
    if not actors:
        raise XrpcError("InvalidRequest", "Profile not found", 400)
    return profile_view_detailed(state, state.actors[actors[0]])


METHOD: Final[Pipeline[list[int]]] = Pipeline(
    skeleton=find_accounts, hydrate=State.load_profiles, rules=_refuse, present=_present
)
