"""app.bsky.actor.getProfile(s) and app.bsky.graph.getFollows / getFollowers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.session import Session
from appview.views.detailed_profile import profile_view_detailed
from appview.views.profile import profile_view
from network.xrpc_server import XrpcError
from protocol.syntax import is_did
from storage.addresses import find_actors, find_handles
from storage.collections import FOLLOW_SUBJECT

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


def _refuse_hidden(state: State, actors: list[int]) -> list[int]:
    for actor in actors:
        found = state.actors[actor]
        if found.takedown is not None or found.upstream_status == "takendown":
            raise XrpcError("AccountTakedown", "Account has been taken down", 400)
        if state.is_hidden(actor):
            raise XrpcError("AccountDeactivated", "Account is not active", 400)
    return actors


GET_PROFILE: Pipeline[list[int]] = Pipeline(
    skeleton=_find_profiles,
    hydrate=lambda state, actors: state.load_profiles(actors),
    rules=_refuse_hidden,
    present=_one_profile,
)

GET_PROFILES: Pipeline[list[int]] = Pipeline(
    skeleton=_find_profiles,
    hydrate=lambda state, actors: state.load_profiles(actors),
    rules=lambda state, actors: [a for a in actors if not state.is_hidden(a)],
    present=lambda state, actors, _: {
        "profiles": [profile_view_detailed(state, state.actors[a]) for a in actors]
    },
)


@dataclass(frozen=True, slots=True)
class _Edges:
    subject: int
    actors: list[int]
    after: list[Any] | None


def _find_subject(session: Session, params: Params) -> int:
    subject = session.find_actor(params["actor"])
    if subject is None:
        raise XrpcError("InvalidRequest", f"Actor not found: {params['actor']}", 400)
    return subject


def _page_edges(
    session: Session, params: Params, *, mine: str, other: str, extra: str
) -> _Edges:
    subject = _find_subject(session, params)
    after = session.open_cursor(params.get("cursor"))
    keyset = f"AND (rkey, {other}) < (%s, %s)" if after else ""
    rows = session.conn.execute(
        f"""
        SELECT {other}, rkey FROM link
        WHERE path = %s AND {mine} = %s {extra} {keyset}
        ORDER BY rkey DESC, {other} DESC LIMIT %s
        """,
        (FOLLOW_SUBJECT, subject, *(after or ()), params["limit"] + 1),
    ).fetchall()
    page = rows[: params["limit"]]
    more = len(rows) > len(page)
    return _Edges(
        subject,
        list(dict.fromkeys(actor for actor, _ in page)),
        [page[-1][1], page[-1][0]] if more else None,
    )


def _find_follows(session: Session, params: Params) -> _Edges:
    return _page_edges(session, params, mine="actor", other="target_actor", extra="")


def _find_followers(session: Session, params: Params) -> _Edges:
    return _page_edges(
        session,
        params,
        mine="target_actor",
        other="actor",
        extra="AND target_rkey = 0",
    )


def _drop_hidden(state: State, edges: _Edges) -> _Edges:
    _refuse_hidden(state, [edges.subject])
    shown = [a for a in edges.actors if state.may_show_actor(a)]
    return _Edges(edges.subject, shown, edges.after)


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
