"""app.bsky.graph.getMutes: the accounts that the viewer mutes, the latest first."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, SearchPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_actors
from appview.session import RequestContext
from appview.shapes.procedure import require_account_of
from appview.views.profile import profile_view
from storage.postgres.instants import from_micros, to_micros
from storage.private.mutes import find_muted
from storage.records.addresses import find_actors


def _muted(context: RequestContext, _: Params) -> Source[str]:
    viewer = require_account_of(context)

    def fetch(after: Keyset | None, limit: int) -> list[Entry[str]]:
        keyset = (from_micros(after[0]), after[1]) if after else None
        with context.app.private.read() as conn:
            found = find_muted(conn, viewer, limit, keyset)
        return [Entry(did, [to_micros(at), did]) for did, at in found]

    return Source(fetch, [viewer])


def _load(state: State, page: Page[str]) -> None:
    state.load_actors(find_actors(state.session.conn, page.items).values())


def _ids(state: State) -> dict[str, int]:
    return {actor.did: actor.id for actor in state.actors.values()}


def _shown(state: State, page: Page[str]) -> list[str]:
    ids = _ids(state)
    known = [did for did in page.items if did in ids]
    shown = {*shown_actors(state, Place.ACTOR, [ids[did] for did in known])}
    return [did for did in known if ids[did] in shown]


METHOD: Final[SearchPages[str]] = SearchPages(
    _muted,
    Steps(
        hydrate=_load,
        rules=_shown,
        present=lambda state, page, _: {
            "mutes": [
                profile_view(state, state.actors[_ids(state)[did]])
                for did in page.items
            ]
        },
    ),
    auth="required",
)
