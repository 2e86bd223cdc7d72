"""The search page: posts, people, feeds and records of any collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request

from appview.app_bsky.actor import get_suggestions, search_actors
from appview.app_bsky.unspecced import get_popular_feed_generators
from appview.bigworld_search import search_records
from appview.hydration.state import State
from appview.paging import Page
from appview.pipeline import Params
from appview.post_queries import read_v1
from appview.session import RequestContext
from appview.shapes.post_search import post_search, present_posts
from appview.shapes.record_search import HITS_TOTAL, MENDED
from network.xrpc.server import XrpcError
from search.query.nodes import words_of
from search.query.operators import NOBODY, InvalidQueryError
from search.query.parser import parse_query
from search.text.languages import primary_language
from search.text.tokens import Clause
from service.web.feed_pages import FeedPages
from service.web.moments import utc_now
from service.web.rendering import PAGE_SIZE, PageFrame, cursor_of
from service.web.richtext import Marks
from service.web.search_links import (
    POST_TABS,
    Chip,
    collection_chips,
    fold_fields,
    make_chips,
    make_tabs,
    page_link,
    read_tab,
    show_total,
    words_only,
)
from storage.records.addresses import Address

FoundPosts = Page[Address]
SEARCH_CURSOR: Final = "page.search"
_LATEST: Final = 10
_OWN_FEEDS: Final = 12
_LONGEST: Final = 1_000
_RESULTS: Final = ("posts", "actors", "feeds", "records", MENDED)
_NOUNS: Final = {
    "top": ("post", "posts"),
    "latest": ("post", "posts"),
    "people": ("account", "accounts"),
    "feeds": ("feed", "feeds"),
    "any": ("record", "records"),
}


class SearchPage:
    """The page of a query, or the latest posts without one."""

    def __init__(self, frame: PageFrame, feeds: FeedPages) -> None:
        self._frame = frame
        self._feeds = feeds

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        asked = request.query_params
        typed = asked.get("q", "").strip()[:_LONGEST]
        query = fold_fields(typed, asked)
        tab = read_tab(asked, bool(query))
        only = asked.get("collection", "") if tab == "any" else ""
        values: dict[str, Any] = {
            "title": query or "Search",
            "q": query,
            "tab": tab,
            "only": only,
            "tabs": make_tabs(query, tab),
            "chips": [],
            "marks": Marks(_clauses(query)),
            "error": None,
            "next": None,
            "total": None,
            "own_feeds": self._feeds.algorithms()[:_OWN_FEEDS],
            "latest": [],
            **{name: [] for name in _RESULTS},
        }
        if not query and tab in POST_TABS:
            values["latest"] = self._feeds.latest(request, _LATEST)
            return values
        context = self._frame.context(request, f"{SEARCH_CURSOR}.{tab}")
        params = {"limit": PAGE_SIZE} | cursor_of(request)
        if only:
            params["collection"] = [only]
        try:
            answer = _search(context, tab, query, params)
        except XrpcError as error:
            if error.status != 400:
                raise
            return values | {"error": error.message, "chips": _chips(values, only)}
        values |= {name: answer.get(name, []) for name in _RESULTS}
        mended = [Clause((searched,)) for _, searched in values[MENDED]]
        values["marks"] = Marks([*_clauses(query), *mended])
        link = page_link(tab, query, only)
        values["next"] = _next(link, answer.get("cursor"))
        values["chips"] = _chips(values, only)
        if query:
            is_first = "cursor" not in params
            values["total"] = _total(tab, answer, is_first=is_first)
        return values


def _search(
    context: RequestContext, tab: str, query: str, params: Params
) -> dict[str, Any]:
    if tab == "people":
        words = words_only(query)
        method = search_actors.METHOD if words else get_suggestions.METHOD
        return method.run(context, params | {"q": words})
    if tab == "feeds":
        params |= {"query": query}
        return get_popular_feed_generators.METHOD.run(context, params)
    if tab == "any":
        return search_records.METHOD.run(context, params | {"q": query})
    return _POSTS.run(context, params | {"q": query, "sort": tab})


def _present(state: State, page: FoundPosts, params: Params) -> dict[str, Any]:
    mended = page.notes.get(MENDED, ())
    return present_posts(state, page, params) | {MENDED: mended}


_POSTS: Final = post_search(read_v1, _present)


def _clauses(query: str) -> Sequence[Clause]:
    """Return the words of a query that are highlighted."""
    try:
        parsed = parse_query(query, resolve_handle=lambda _: None, viewer=NOBODY)
    except InvalidQueryError:
        return ()
    found = {Clause(words.tokens, words.prefix) for words in words_of(parsed.where)}
    return [*found]


def _chips(values: dict[str, Any], only: str) -> list[Chip]:
    languages = [
        found
        for view in values["posts"]
        for name in _declared(view["record"])
        if (found := primary_language(name))
    ]
    query, tab = values["q"], values["tab"]
    collections = [view["uri"].split("/")[3] for view in values["records"]]
    return [
        *collection_chips(query, only, collections if tab == "any" else ()),
        *make_chips(query, tab, languages, utc_now(), only),
    ]


def _declared(record: dict[str, Any]) -> list[str]:
    langs = record.get("langs")
    names = langs if isinstance(langs, list) else []
    return [name for name in names if isinstance(name, str)]


def _next(link: str, cursor: str | None) -> str | None:
    return None if cursor is None else f"{link}&{urlencode({'cursor': cursor})}"


def _total(tab: str, answer: dict[str, Any], *, is_first: bool) -> str | None:
    shown = sum(len(answer.get(name, ())) for name in _RESULTS if name != MENDED)
    is_whole = is_first and "cursor" not in answer
    text = show_total(answer.get(HITS_TOTAL), shown, is_whole)
    if text is None or not shown:
        return None
    one, many = _NOUNS[tab]
    return f"{text} {one if text == '1' else many}"
