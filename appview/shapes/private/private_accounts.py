"""Pages of accounts that the viewer has named in private: mutes and subscriptions."""

from __future__ import annotations

from appview.hydration.state import State
from appview.paging import Page, SearchPages, Steps
from appview.rules import Place, shown_actors
from appview.shapes.private.private_pages import private_source, subject_of
from appview.views.profile import profile_view
from storage.private.private_items import Kind
from storage.records.addresses import find_actors


def private_accounts(
    kind: Kind, name: str, *, place: Place, flags: int | None = None
) -> SearchPages[str]:
    """Return the pages of accounts of a kind of items, in the field `name`."""

    def shown(state: State, page: Page[str]) -> list[str]:
        ids = _ids(state)
        known = [did for did in page.items if did in ids]
        kept = {*shown_actors(state, place, [ids[did] for did in known])}
        return [did for did in known if ids[did] in kept]

    return SearchPages(
        private_source(kind, subject_of, flags=flags),
        Steps(
            hydrate=_load,
            rules=shown,
            present=lambda state, page, _: {
                name: [
                    profile_view(state, state.actors[_ids(state)[did]])
                    for did in page.items
                ]
            },
        ),
        auth="required",
    )


def _load(state: State, page: Page[str]) -> None:
    state.load_actors(find_actors(state.session.conn, page.items).values())


def _ids(state: State) -> dict[str, int]:
    return {actor.did: actor.id for actor in state.actors.values()}
