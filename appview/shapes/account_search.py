"""Accounts that the search engine finds: searchActors and typeahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from appview.hydration.actors import Actor
from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, SearchPages, Source, Steps
from appview.pipeline import Params
from appview.session import RequestContext
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from search.engines.contract import ActorHit, SearchEngine, TooCostlyError

MAX_TERM_CHARS = 256

Search = Callable[..., list[ActorHit]]


def account_search(
    search: Callable[[SearchEngine], Search],
    rules: Callable[[State, Page[int]], list[int]],
    view: Callable[[State, Actor], dict[str, Any]],
    *,
    has_cursor: bool = True,
) -> SearchPages[int]:
    """Return the pages of a search: its method of the engine, rules and view."""

    def found(context: RequestContext, params: Params) -> Source[int]:
        term = _read_term(context, params)
        find = search(context.app.engine)

        def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
            with in_time():
                hits = find(term, limit=limit, after=after)
            return [Entry(hit.actor, hit.keyset) for hit in hits]

        return Source(fetch, query_text=term.lower())

    return SearchPages(
        found,
        Steps(
            hydrate=lambda state, page: state.load_actors(page.items),
            rules=rules,
            present=lambda state, page, _: {
                "actors": [view(state, state.actors[actor]) for actor in page.items]
            },
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


def _read_term(context: RequestContext, params: Params) -> str:
    term: str = params.get("q") or params.get("term") or ""
    if not is_did(term):
        return term[:MAX_TERM_CHARS]
    with context.session() as session:
        row = session.conn.execute(
            "SELECT handle FROM actor WHERE did = %s", (term,)
        ).fetchone()
    return row[0] or "" if row else ""
