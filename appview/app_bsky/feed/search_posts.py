"""app.bsky.feed.searchPosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from appview.hydration.records import POST
from appview.paging import Entry, Keyset, SearchPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_records
from appview.session import RequestContext
from appview.shapes.account_search import in_time
from appview.views.post import post_view
from network.xrpc.server import XrpcError
from search.query.nodes import Kind, Query, all_of, filters
from search.query.operators import (
    InvalidQueryError,
    parse_moment,
    read_language,
    resolve_account,
)
from search.query.parser import parse_query
from search.text.tags import normalize_tag
from storage.records.addresses import Address, find_handles
from storage.records.web_urls import normalize_domain, normalize_url


def _found_posts(context: RequestContext, params: Params) -> Source[Address]:
    try:
        query = _read_query(context, params)
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        with in_time():
            page = context.app.engine.search_records(
                query, collections=[POST], limit=limit, after=after
            )
        return [Entry(hit.address, hit.keyset) for hit in page.hits]

    return Source(fetch)


def _read_query(context: RequestContext, params: Params) -> Query:
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
    where = all_of(
        *filters(Kind.AUTHOR, accounts("author")),
        *filters(Kind.MENTION, accounts("mentions")),
        *filters(Kind.DOMAIN, _one(params, "domain", normalize_domain)),
        *filters(Kind.URL, _one(params, "url", normalize_url)),
        *filters(Kind.TAG, map(normalize_tag, params.get("tag", ()))),
        *filters(Kind.LANG, _one(params, "lang", read_language)),
    )
    base = Query(
        where=where,
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
    if query.within:
        raise InvalidQueryError("in: is not served yet")
    if query.is_empty and text.strip() != "*":
        raise InvalidQueryError("the query holds no word; `*` finds everything")
    return query


def _one(params: Params, name: str, clean: Callable[[str], str]) -> tuple[str, ...]:
    given = params.get(name)
    return (clean(given),) if given else ()


METHOD: Final[SearchPages[Address]] = SearchPages(
    _found_posts,
    Steps(
        hydrate=lambda state, page: state.load_posts(page.items),
        rules=lambda state, page: shown_records(state, Place.POST, page.items),
        present=lambda state, page, _: {
            "posts": [post_view(state, address) for address in page.items]
        },
    ),
)
