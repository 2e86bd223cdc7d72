"""Accounts that the search engine finds: searchActors and typeahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, SearchPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_actors
from appview.session import RequestContext
from appview.shapes.skeleton import Present
from appview.skeletons.places import followed_ids
from appview.steady import steady
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from search.engines.contract import ActorHit, SearchEngine, TooCostlyError

MAX_TERM_CHARS: Final = 256

Search = Callable[..., list[ActorHit]]


def search_pages(present: Present) -> SearchPages[int]:
    """Return pages of accounts with these words in handle, name or description."""
    return _pages(
        lambda engine: engine.search_actors,
        lambda state, page: shown_actors(state, Place.ACTOR_HIT, page.items),
        present,
        has_cursor=True,
    )


def typeahead_pages(present: Present, *, has_cursor: bool) -> SearchPages[int]:
    """Return pages of accounts whose handle or name begins like a term."""
    return _pages(
        lambda engine: engine.typeahead, _shown_typed, present, has_cursor=has_cursor
    )


def _shown_typed(state: State, page: Page[int]) -> list[int]:
    """Return the shown hits; a whole handle finds its account across a block too."""
    shown = []
    for actor in page.items:
        found = state.actors.get(actor)
        is_exact = found is not None and found.handle == page.query_text
        place = Place.EXACT_HIT if is_exact else Place.ACTOR_HIT
        shown += shown_actors(state, place, [actor])
    return shown


def _pages(
    search: Callable[[SearchEngine], Search],
    rules: Callable[[State, Page[int]], list[int]],
    present: Present,
    *,
    has_cursor: bool,
) -> SearchPages[int]:
    def found(context: RequestContext, params: Params) -> Source[int]:
        term: str = (params.get("q") or params.get("term") or "")[:MAX_TERM_CHARS]
        with context.session() as session:
            named = session.find_actor(term) if is_did(term) else None
            viewer = session.viewer_actor
            follows = [] if viewer is None else followed_ids(session.conn, viewer)
        if is_did(term):
            only = [] if named is None else [Entry(named, [named])]
            return Source(lambda after, limit: [] if after else only)
        find = search(context.app.engine)

        def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
            with in_time():
                hits = find(term, limit=limit, after=after, follows=follows)
            return [Entry(hit.actor, hit.keyset) for hit in hits]

        return Source(steady(fetch), query_text=term.strip().removeprefix("@").lower())

    return SearchPages(
        found,
        Steps(
            hydrate=lambda state, page: state.load_actors(page.items),
            rules=rules,
            present=present,
        ),
        has_cursor=has_cursor,
    )


@contextmanager
def in_time() -> Iterator[None]:
    """Answer 503 for a search that takes too long."""
    try:
        yield
    except TooCostlyError as error:
        raise XrpcError(
            "ServiceUnavailable", str(error), 503, {"Retry-After": "5"}
        ) from error
