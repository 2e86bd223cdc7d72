"""app.bsky.feed.searchPosts and app.bsky.actor.searchActors(Typeahead)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from appview.hydration.records import POST
from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, SearchPages, Source, Steps
from appview.pipeline import Params, Runnable
from appview.rules import Place, shown_actors, shown_records
from appview.session import RequestContext
from appview.views.post import post_view
from appview.views.profile import profile_view, profile_view_basic
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from search.engines.contract import ActorHit, TooCostlyError
from search.query import (
    InvalidQueryError,
    PostQuery,
    normalize_tag,
    parse_moment,
    parse_query,
    resolve_account,
)
from storage.records.addresses import find_handles
from storage.records.documents import Address
from storage.records.web_urls import normalize_domain, normalize_url


def _found_posts(context: RequestContext, params: Params) -> Source[Address]:
    try:
        query = _read_query(context, params)
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        with _in_time():
            hits = context.app.engine.search_records(
                query, collections=[POST], limit=limit, after=after
            )
        return [Entry(hit.address, hit.keyset) for hit in hits]

    return Source(fetch)


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except TooCostlyError as error:
        raise XrpcError(
            "ServiceUnavailable", str(error), 503, {"Retry-After": "5"}
        ) from error


def _read_query(context: RequestContext, params: Params) -> PostQuery:
    viewer = context.viewer_did

    def resolve(handle: str) -> str | None:
        with context.session() as session:
            return find_handles(session.conn, [handle]).get(handle.lower())

    def accounts(name: str) -> tuple[str, ...]:
        given = params.get(name)
        return (resolve_account(given, resolve, viewer),) if given else ()

    def moment(name: str) -> Any:
        given = params.get(name)
        return parse_moment(given) if given else None

    text: str = params["q"]
    base = PostQuery(
        authors=accounts("author"),
        mentions=accounts("mentions"),
        domains=_one(params, "domain", normalize_domain),
        urls=_one(params, "url", normalize_url),
        tags=tuple(normalize_tag(tag) for tag in params.get("tag", ())),
        langs=_one(params, "lang", lambda v: v.lower().split("-")[0]),
        since=moment("since"),
        until=moment("until"),
        sort="top" if params.get("sort") == "top" else "latest",
    )
    query = parse_query(
        "" if text.strip() == "*" else text,
        resolve_handle=resolve,
        viewer=viewer,
        base=base,
    )
    if query.is_empty and text.strip() != "*":
        raise InvalidQueryError("the query holds no word; `*` finds everything")
    return query


def _one(params: Params, name: str, clean: Any) -> tuple[str, ...]:
    given = params.get(name)
    return (clean(given),) if given else ()


SEARCH_POSTS: SearchPages[Address] = SearchPages(
    _found_posts,
    Steps(
        hydrate=lambda state, page: state.load_posts(page.items),
        rules=lambda state, page: shown_records(state, Place.POST, page.items),
        present=lambda state, page, _: {
            "posts": [post_view(state, address) for address in page.items]
        },
    ),
)


def _found_actors(context: RequestContext, params: Params) -> Source[int]:
    return _actors(context, params, context.app.engine.search_actors)


def _completed_actors(context: RequestContext, params: Params) -> Source[int]:
    return _actors(context, params, context.app.engine.typeahead)


def _actors(
    context: RequestContext, params: Params, search: Callable[..., list[ActorHit]]
) -> Source[int]:
    term = _term(context, params)

    def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
        with _in_time():
            hits = search(term, limit=limit, after=after)
        return [Entry(hit.actor, hit.keyset) for hit in hits]

    return Source(fetch, asked=term.lower())


def _term(context: RequestContext, params: Params) -> str:
    term: str = params.get("q") or params.get("term") or ""
    if not is_did(term):
        return term[:256]
    with context.session() as session:
        row = session.conn.execute(
            "SELECT handle FROM actor WHERE did = %s", (term,)
        ).fetchone()
    return row[0] or "" if row else ""


def _shown_hits(state: State, page: Page[int]) -> list[int]:
    return shown_actors(state, Place.ACTOR_HIT, page.items)


def _shown_completions(state: State, page: Page[int]) -> list[int]:
    """An account stays to be found by its whole handle, also across a block."""
    shown = []
    for actor in page.items:
        found = state.actors.get(actor)
        is_exact = found is not None and found.handle == page.asked
        place = Place.EXACT_HIT if is_exact else Place.ACTOR_HIT
        shown += shown_actors(state, place, [actor])
    return shown


SEARCH_ACTORS: SearchPages[int] = SearchPages(
    _found_actors,
    Steps(
        hydrate=lambda state, page: state.load_actors(page.items),
        rules=_shown_hits,
        present=lambda state, page, _: {
            "actors": [profile_view(state, state.actors[a]) for a in page.items]
        },
    ),
)

TYPEAHEAD: SearchPages[int] = SearchPages(
    _completed_actors,
    Steps(
        hydrate=lambda state, page: state.load_actors(page.items),
        rules=_shown_completions,
        present=lambda state, page, _: {
            "actors": [profile_view_basic(state, state.actors[a]) for a in page.items]
        },
    ),
    has_cursor=False,
)

METHODS: dict[str, Runnable] = {
    "app.bsky.feed.searchPosts": SEARCH_POSTS,
    "app.bsky.actor.searchActors": SEARCH_ACTORS,
    "app.bsky.actor.searchActorsTypeahead": TYPEAHEAD,
}
