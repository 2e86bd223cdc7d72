"""blue.microcosm.links.getBacklinkDids."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_actors
from appview.session import Session
from appview.shapes.backlinks import read_wanted
from storage.records.link_paths import count_links_to, find_accounts


def _source(session: Session, params: Params) -> Source[int]:
    wanted = read_wanted(session, params)
    target = wanted.target
    if target is None or not wanted.paths:
        return Source(lambda after, limit: [])
    path = wanted.paths[0]

    def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
        last = after[0] if after else None
        found = find_accounts(session.conn, path.id, target, limit=limit, after=last)
        return [Entry(actor, [actor]) for actor in found]

    return Source(fetch, (*target, path.id))


def _present(state: State, page: Page[int], params: Params) -> dict[str, Any]:
    total = 0
    if page.subject:
        *target, path = page.subject
        actor, collection, rkey = target
        counted = count_links_to(state.session.conn, path, (actor, collection, rkey))
        total = counted.accounts
    return {
        "total": total,
        "linking_dids": [state.actors[actor].did for actor in page.items],
    }


METHOD: Final[RowPages[int]] = RowPages(
    _source,
    Steps(
        hydrate=lambda state, page: state.load_actors(page.items),
        rules=lambda state, page: shown_actors(state, Place.ACTOR_HIT, page.items),
        present=_present,
    ),
)
