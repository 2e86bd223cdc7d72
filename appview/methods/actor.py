"""app.bsky.actor.getProfile(s) and app.bsky.graph.getFollows / getFollowers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, refuse_profile, refuse_subject, shown_actors
from appview.session import Session
from appview.views.detailed_profile import profile_view_detailed
from appview.views.profile import profile_view
from network.xrpc_server import XrpcError
from protocol.syntax import is_did
from storage.addresses import find_actors, find_handles
from storage.links import find_followers, find_follows

MAX_PROFILES = 25


def _find_profiles(session: Session, params: Params) -> list[int]:
    names: list[str] = params.get("actors") or [params["actor"]]
    if len(names) > MAX_PROFILES:
        raise XrpcError("InvalidRequest", f"at most {MAX_PROFILES} actors", 400)
    by_handle = find_handles(session.conn, [n for n in names if not is_did(n)])
    dids = [n if is_did(n) else by_handle.get(n.lower(), "") for n in names]
    ids = find_actors(session.conn, dids)
    return list(dict.fromkeys(ids[did] for did in dids if did in ids))


def _one_profile(state: State, actors: list[int], _: Params) -> dict[str, Any]:
    if not actors:
        raise XrpcError("InvalidRequest", "Profile not found", 400)
    return profile_view_detailed(state, state.actors[actors[0]])


def _refuse_profile(state: State, actors: list[int]) -> list[int]:
    for actor in actors:
        refuse_profile(state, actor)
    return actors


GET_PROFILE: Pipeline[list[int]] = Pipeline(
    skeleton=_find_profiles,
    hydrate=lambda state, actors: state.load_profiles(actors),
    rules=_refuse_profile,
    present=_one_profile,
)

GET_PROFILES: Pipeline[list[int]] = Pipeline(
    skeleton=_find_profiles,
    hydrate=lambda state, actors: state.load_profiles(actors),
    rules=lambda state, actors: shown_actors(state, Place.ACTOR, actors),
    present=lambda state, actors, _: {
        "profiles": [profile_view_detailed(state, state.actors[a]) for a in actors]
    },
)


@dataclass(frozen=True, slots=True)
class _Edges:
    asked: str
    subject: int
    actors: list[int]
    after: list[Any] | None


def _find_subject(session: Session, params: Params) -> int:
    subject = session.find_actor(params["actor"])
    if subject is None:
        raise XrpcError("InvalidRequest", f"Actor not found: {params['actor']}", 400)
    return subject


def _find_follows(session: Session, params: Params) -> _Edges:
    subject = _find_subject(session, params)
    after = session.open_cursor(params.get("cursor"))
    found, after = find_follows(
        session.conn, subject, limit=params["limit"], after=after
    )
    actors = list(dict.fromkeys(link.actor for link in found))
    return _Edges(params["actor"], subject, actors, after)


def _find_followers(session: Session, params: Params) -> _Edges:
    subject = _find_subject(session, params)
    after = session.open_cursor(params.get("cursor"))
    found, after = find_followers(
        session.conn, subject, limit=params["limit"], after=after
    )
    actors = list(dict.fromkeys(link.actor for link in found))
    return _Edges(params["actor"], subject, actors, after)


def _drop_hidden(state: State, edges: _Edges) -> _Edges:
    refuse_subject(state, edges.subject, edges.asked)
    shown = shown_actors(state, Place.FOLLOW, edges.actors, beside=edges.subject)
    return _Edges(edges.asked, edges.subject, shown, edges.after)


def _edges_pipeline(skeleton: Any, name: str) -> Pipeline[_Edges]:
    return Pipeline(
        skeleton=skeleton,
        hydrate=lambda state, edges: state.load_actors([edges.subject, *edges.actors]),
        rules=_drop_hidden,
        present=lambda state, edges, _: {
            "subject": profile_view(state, state.actors[edges.subject]),
            name: [profile_view(state, state.actors[a]) for a in edges.actors],
            **state.session.seal_cursor(edges.after),
        },
    )


METHODS: dict[str, Pipeline[Any]] = {
    "app.bsky.actor.getProfile": GET_PROFILE,
    "app.bsky.actor.getProfiles": GET_PROFILES,
    "app.bsky.graph.getFollows": _edges_pipeline(_find_follows, "follows"),
    "app.bsky.graph.getFollowers": _edges_pipeline(_find_followers, "followers"),
}
