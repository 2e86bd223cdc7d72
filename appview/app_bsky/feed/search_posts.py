"""app.bsky.feed.searchPosts."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import POST
from appview.paging import Entry, Keyset, SearchPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_records
from appview.session import RequestContext
from appview.shapes.account_search import in_time
from appview.views.post import post_view
from network.xrpc.server import XrpcError
from search.query import (
    InvalidQueryError,
    PostQuery,
    normalize_tag,
    parse_moment,
    parse_query,
    resolve_account,
)
from storage.records.addresses import Address, find_handles
from storage.records.web_urls import normalize_domain, normalize_url


def _found_posts(context: RequestContext, params: Params) -> Source[Address]:
    try:
        query = _read_query(context, params)
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        with in_time():
            hits = context.app.engine.search_records(
                query, collections=[POST], limit=limit, after=after
            )
        return [Entry(hit.address, hit.keyset) for hit in hits]

    return Source(fetch)


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
