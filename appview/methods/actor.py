"""app.bsky.actor.getProfile(s) and app.bsky.graph.getFollows / getFollowers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params, Pipeline, Runnable
from appview.rules import Place, refuse_profile, refuse_subject, shown_actors
from appview.session import Session
from appview.views.detailed_profile import profile_view_detailed
from appview.views.profile import profile_view
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from storage.records.addresses import find_actors, find_handles
from storage.records.links import (
    LinkPage,
    find_followers,
    find_follows,
    link_keyset,
)

MAX_PROFILES = 25


def _find_profiles(session: Session, params: Params) -> list[int]:
    names: list[str] = params.get("actors") or [params["actor"]]
    if len(names) > MAX_PROFILES:
        raise XrpcError("InvalidRequest", f"at most {MAX_PROFILES} actors", 400)
    by_handle = find_handles(session.conn, [n for n in names if not is_did(n)])
    dids = [n if is_did(n) else by_handle.get(n.lower(), "") for n in names]
    ids = find_actors(session.conn, dids)
    return [ids[did] for did in dids if did in ids]


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


def _find_subject(session: Session, params: Params) -> int:
    subject = session.find_actor(params["actor"])
    if subject is None:
        raise XrpcError("InvalidRequest", f"Actor not found: {params['actor']}", 400)
    return subject


def _edges(
    session: Session, params: Params, find: Callable[..., LinkPage]
) -> Source[int]:
    subject = _find_subject(session, params)

    def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
        page = find(session.conn, subject, limit=limit, after=after)
        return [Entry(link.actor, link_keyset(page, after, link)) for link in page[0]]

    return Source(fetch, [subject], params["actor"])


def _follows(session: Session, params: Params) -> Source[int]:
    return _edges(session, params, find_follows)


def _followers(session: Session, params: Params) -> Source[int]:
    return _edges(session, params, find_followers)


def _shown_edges(state: State, page: Page[int]) -> list[int]:
    [subject] = page.subject
    refuse_subject(state, subject, page.asked)
    return shown_actors(state, Place.FOLLOW, page.items, beside=subject)


def _edge_pages(source: Any, name: str) -> RowPages[int]:
    return RowPages(
        source,
        Steps(
            hydrate=lambda state, page: state.load_actors([*page.subject, *page.items]),
            rules=_shown_edges,
            present=lambda state, page, _: {
                "subject": profile_view(state, state.actors[page.subject[0]]),
                name: [profile_view(state, state.actors[a]) for a in page.items],
            },
        ),
    )


METHODS: dict[str, Runnable] = {
    "app.bsky.actor.getProfile": GET_PROFILE,
    "app.bsky.actor.getProfiles": GET_PROFILES,
    "app.bsky.graph.getFollows": _edge_pages(_follows, "follows"),
    "app.bsky.graph.getFollowers": _edge_pages(_followers, "followers"),
}
