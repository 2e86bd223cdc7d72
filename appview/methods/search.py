"""app.bsky.feed.searchPosts and app.bsky.actor.searchActors(Typeahead)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appview.hydration.records import POST
from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_actors, shown_records
from appview.session import Session
from appview.views.post import post_view
from appview.views.profile import profile_view, profile_view_basic
from network.xrpc_server import XrpcError
from protocol.syntax import is_did
from search.query import (
    InvalidQueryError,
    PostQuery,
    normalize_tag,
    parse_moment,
    parse_query,
    resolve_account,
)
from storage.addresses import find_handles
from storage.web_urls import normalize_domain, normalize_url


@dataclass(frozen=True, slots=True)
class _Page:
    items: list[Any]
    after: list[Any] | None
    term: str = ""


def _find_posts(session: Session, params: Params) -> _Page:
    try:
        query = _read_query(session, params)
        hits = session.app.engine.search_records(
            query,
            collections=[POST],
            limit=params["limit"],
            after=session.open_cursor(params.get("cursor")),
        )
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error
    return _Page([*hits.addresses], hits.after)


def _read_query(session: Session, params: Params) -> PostQuery:
    viewer = session.viewer.did if session.viewer else None

    def resolve(handle: str) -> str | None:
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


SEARCH_POSTS: Pipeline[_Page] = Pipeline(
    skeleton=_find_posts,
    hydrate=lambda state, page: state.load_posts(page.items),
    rules=lambda state, page: _Page(
        shown_records(state, Place.POST, page.items), page.after
    ),
    present=lambda state, page, _: {
        "posts": [post_view(state, address) for address in page.items],
        **state.session.seal_cursor(page.after),
    },
)


def _find_actors(session: Session, params: Params) -> _Page:
    after = session.open_cursor(params.get("cursor"))
    hits = session.app.engine.search_actors(
        _term(session, params), limit=params["limit"], after=after
    )
    return _Page([*hits.actors], hits.after)


def _complete_actors(session: Session, params: Params) -> _Page:
    term = _term(session, params)
    found = session.app.engine.typeahead(term, limit=params["limit"])
    return _Page([*found], None, term.lower())


def _term(session: Session, params: Params) -> str:
    term: str = params.get("q") or params.get("term") or ""
    if is_did(term):
        row = session.conn.execute(
            "SELECT handle FROM actor WHERE did = %s", (term,)
        ).fetchone()
        return row[0] or "" if row else ""
    return term[:256]


def _shown_hits(state: State, page: _Page) -> _Page:
    return _Page(shown_actors(state, Place.ACTOR_HIT, page.items), page.after)


def _shown_completions(state: State, page: _Page) -> _Page:
    """An account stays to be found by its whole handle, also across a block."""
    shown = []
    for actor in page.items:
        found = state.actors.get(actor)
        is_exact = found is not None and found.handle == page.term
        place = Place.EXACT_HIT if is_exact else Place.ACTOR_HIT
        shown += shown_actors(state, place, [actor])
    return _Page(shown, page.after)


SEARCH_ACTORS: Pipeline[_Page] = Pipeline(
    skeleton=_find_actors,
    hydrate=lambda state, page: state.load_actors(page.items),
    rules=_shown_hits,
    present=lambda state, page, _: {
        "actors": [profile_view(state, state.actors[a]) for a in page.items],
        **state.session.seal_cursor(page.after),
    },
)

TYPEAHEAD: Pipeline[_Page] = Pipeline(
    skeleton=_complete_actors,
    hydrate=lambda state, page: state.load_actors(page.items),
    rules=_shown_completions,
    present=lambda state, page, _: {
        "actors": [profile_view_basic(state, state.actors[a]) for a in page.items]
    },
)

METHODS: dict[str, Pipeline[Any]] = {
    "app.bsky.feed.searchPosts": SEARCH_POSTS,
    "app.bsky.actor.searchActors": SEARCH_ACTORS,
    "app.bsky.actor.searchActorsTypeahead": TYPEAHEAD,
}
