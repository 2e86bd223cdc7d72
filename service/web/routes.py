"""Routes of the pages, which read through the pipelines of the XRPC methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlencode, urlsplit

import psycopg
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from appview.app import AppView
from appview.app_bsky.actor import get_profile, search_actors
from appview.app_bsky.feed import (
    get_author_feed,
    get_feed,
    get_post_thread,
    search_posts,
)
from appview.labelers import Labelers
from appview.session import RequestContext
from crawler.settings import CrawlSettings
from feeds.registry import FEEDS
from network.server.admission import working
from network.server.client_watch import watch_client
from network.server.outage import outage_error
from network.xrpc.server import THREADS, XrpcError
from protocol.limits import MAX_PARAMETER_CHARS
from protocol.syntax import is_did, is_handle, is_record_key
from service.web.filters import FILTERS
from service.web.host_page import HostPages
from service.web.images import IMAGE_PATTERN, Images
from service.web.richtext import is_web_url
from service.web.status import BENIGN, COUNTS, Status, read_status
from storage.collections import FEED_GENERATOR, FEED_POST
from storage.repos.repo_rows import find_repos

_FOLDER = Path(__file__).parent
_PAGE_SIZE = 25
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# Without a referrer, browsers do not show that a form was sent from our page.
_SAME_ORIGIN = {"Referrer-Policy": "same-origin"}
SEARCH_CURSOR = "page.search"

Page = Callable[[Request], dict[str, Any]]


def page_routes(
    app: AppView,
    settings: CrawlSettings | None = None,
    threads: CapacityLimiter | None = None,
    images: Images | None = None,
) -> Sequence[BaseRoute]:
    """Return the routes of all pages. Without a CDN they show images of `images`."""
    if app.cdn_url_pattern is None:
        app = replace(app, cdn_url_pattern=IMAGE_PATTERN)
    threads = threads or CapacityLimiter(THREADS)
    pages = _Pages(app, threads)
    host_pages = HostPages(app.pool, settings or CrawlSettings(), threads)
    show_host = pages.route("host.html", host_pages.page, _SAME_ORIGIN)
    return [
        *([images.route()] if images else ()),
        Route("/", pages.route("search.html", pages.search)),
        Route("/profile/{actor}", pages.route("profile.html", pages.profile)),
        Route("/post/{actor}/{rkey}", pages.route("thread.html", pages.thread)),
        Route("/feeds", pages.route("feeds.html", pages.feeds)),
        Route("/feed/{name}", pages.route("feed.html", pages.feed)),
        Route("/status", pages.route("status.html", pages.status)),
        *host_pages.routes(show_host),
        Route("/status/counts.json", pages.counts_json),
        Mount("/static", StaticFiles(directory=_FOLDER / "static")),
    ]


def _policy(app: AppView) -> str:
    """Return the Content-Security-Policy; images are ours or the CDN's."""
    origin = "'self'"
    parts = urlsplit(app.cdn_url_pattern or "")
    if parts.netloc:
        origin = f"{parts.scheme}://{parts.netloc}"
    return (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        f"img-src {origin} data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


class OddQueryError(Exception):
    """An invalid query parameter."""


def _check_query(request: Request) -> None:
    for name, value in request.query_params.multi_items():
        if "\0" in value:
            raise OddQueryError(f"{name[:80]}: contains a NUL character")
        if len(value) > MAX_PARAMETER_CHARS:
            raise OddQueryError(
                f"{name[:80]}: is longer than {MAX_PARAMETER_CHARS} characters"
            )


def status_route(app: AppView, threads: CapacityLimiter) -> Route:
    """Return the route of `/status.json`: the status page as JSON."""

    async def status_json(request: Request) -> Response:
        async with working(request.scope):
            status = await run_sync(_read_status, app, limiter=threads)
        return JSONResponse(status.as_json())

    return Route("/status.json", status_json)


def _read_status(app: AppView) -> Status:
    with app.pool.connection() as conn:
        return read_status(conn)


class _Pages:
    def __init__(self, app: AppView, threads: CapacityLimiter) -> None:
        self._app = app
        self._headers = _HEADERS | {"Content-Security-Policy": _policy(app)}
        self._threads = threads
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= FILTERS
        self._templates.globals["is_web_url"] = is_web_url

    def route(
        self, template: str, page: Page, headers: Mapping[str, str] | None = None
    ) -> Callable[[Request], Any]:
        """Return an endpoint that renders `template` with the values of `page`."""
        sent = {**self._headers, **(headers or {})}

        async def endpoint(request: Request) -> Response:
            gone = Event()
            request.state.is_client_gone = gone.is_set
            try:
                async with working(request.scope), watch_client(request, gone):
                    return await run_sync(
                        self._render,
                        template,
                        page,
                        sent,
                        request,
                        limiter=self._threads,
                    )
            except XrpcError as error:
                return PlainTextResponse(error.message, error.status, error.headers)

        return endpoint

    def _render(
        self, template: str, page: Page, headers: Mapping[str, str], request: Request
    ) -> Response:
        status = 200
        try:
            _check_query(request)
            values = page(request)
        except OddQueryError as odd:
            template, status = "error.html", 400
            values = {"title": "Invalid query", "message": str(odd)}
        except (XrpcError, psycopg.OperationalError) as raised:
            is_known = isinstance(raised, XrpcError)
            error = raised if is_known else outage_error(raised)
            assert isinstance(error, XrpcError)
            template, status = (
                "error.html",
                404 if error.status == 400 else error.status,
            )
            title = "Not found" if status == 404 else "Try again in a moment"
            values = {"title": title, "message": error.message}
            headers = {**headers, **error.headers}
        text = self._templates.get_template(template).render(
            path=request.url.path, **values
        )
        return HTMLResponse(text, status, headers=headers)

    def search(self, request: Request) -> dict[str, Any]:
        """Search, or show the latest posts if there is no query."""
        asked = request.query_params
        form = {
            name: asked.get(name, "")[:1000]
            for name in ("q", "sort", "lang", "since", "until", "kind", "author")
        }
        values: dict[str, Any] = {
            "title": form["q"] or "Search",
            "form": form,
            "posts": [],
            "actors": [],
            "error": None,
            "next": None,
            "feeds": FEEDS.values(),
            "latest": [],
        }
        context = self._context(request, SEARCH_CURSOR)
        if not any(form[name] for name in ("q", "author", "lang", "since", "until")):
            params = {"feed": self._feed_uri("latest"), "limit": 10}
            values["latest"] = get_feed.OWN_FEED.run(context, params)["feed"]
            return values
        params = {"limit": _PAGE_SIZE, "q": form["q"] or "*"} | _cursor_of(request)
        params |= {
            name: form[name]
            for name in ("sort", "lang", "since", "until", "author", "kind")
            if form[name]
        }
        try:
            if form["kind"] == "people":
                answer = search_actors.METHOD.run(context, params)
                values["actors"] = answer["actors"]
            else:
                answer = search_posts.METHOD.run(context, params)
                values["posts"] = answer["posts"]
        except XrpcError as error:
            if error.status != 400:
                raise
            values["error"] = error.message
            return values
        values["next"] = _next(request, answer.get("cursor"))
        return values

    def profile(self, request: Request) -> dict[str, Any]:
        """Show an account: profile, posts, and the state of its repo."""
        name = _actor_name(request)
        context = self._context(request, request.url.path)
        profile = get_profile.METHOD.run(context, {"actor": name})
        params = {"actor": profile["did"], "limit": _PAGE_SIZE} | _cursor_of(request)
        answer = get_author_feed.METHOD.run(context, params)
        with context.session() as session:
            repo = find_repos(session.conn, [profile["did"]]).get(profile["did"])
        return {
            "title": profile.get("displayName") or profile["handle"],
            "profile": profile,
            "feed": answer["feed"],
            "repo": repo,
            "next": _next(request, answer.get("cursor")),
        }

    def thread(self, request: Request) -> dict[str, Any]:
        """Show a post with its parents and replies."""
        name, rkey = _actor_name(request), request.path_params["rkey"]
        if not is_record_key(rkey):
            raise XrpcError("NotFound", f"{rkey[:80]!r} is not a record key")
        uri = f"at://{name}/{FEED_POST}/{rkey}"
        context = self._context(request, request.url.path)
        params = {"uri": uri, "depth": 6, "parentHeight": 20}
        thread = get_post_thread.METHOD.run(context, params)["thread"]
        above: list[dict[str, Any]] = []
        parent = thread.get("parent")
        while parent is not None:
            above.insert(0, parent)
            parent = parent.get("parent")
        return {"title": "Post", "thread": thread, "above": above}

    def feeds(self, request: Request) -> dict[str, Any]:
        """List the feeds of this provider."""
        return {"title": "Feeds", "feeds": FEEDS.values(), "did": self._app.service_did}

    def feed(self, request: Request) -> dict[str, Any]:
        """Show a feed as getFeed returns it to signed-out readers."""
        name = request.path_params["name"]
        algorithm = FEEDS.get(name)
        if algorithm is None:
            raise XrpcError("UnknownFeed", f"there is no feed {name!r}")
        values = {"title": algorithm.display_name, "algorithm": algorithm, "feed": []}
        if algorithm.personal:
            return values | {"next": None}
        context = self._context(request, request.url.path)
        params = {"feed": self._feed_uri(name), "limit": _PAGE_SIZE}
        answer = get_feed.OWN_FEED.run(context, params | _cursor_of(request))
        return values | {
            "feed": answer["feed"],
            "next": _next(request, answer.get("cursor")),
        }

    def status(self, request: Request) -> dict[str, Any]:
        """Show the state of the index: hosts, lag, drops."""
        with self._app.pool.connection() as conn:
            status = read_status(conn)
        return {
            "title": "Status",
            "status": status,
            "benign": BENIGN,
            "engine": self._app.engine.stats(),
        }

    async def counts_json(self, request: Request) -> Response:
        """Return the counters, which the status page refreshes."""
        async with working(request.scope):
            status = await run_sync(_read_status, self._app, limiter=self._threads)
        return JSONResponse({name: getattr(status, name) for name in COUNTS})

    def _context(self, request: Request, nsid: str) -> RequestContext:
        return RequestContext(
            self._app,
            nsid,
            labelers=Labelers.default(self._app.default_labelers),
            for_page=True,
            is_client_gone=request.state.is_client_gone,
        )

    def _feed_uri(self, name: str) -> str:
        return f"at://{self._app.service_did}/{FEED_GENERATOR}/{name}"


def _actor_name(request: Request) -> str:
    name: str = request.path_params["actor"]
    if not (is_did(name) or is_handle(name)):
        raise XrpcError(
            "InvalidRequest", f"{name[:80]!r} is neither a handle nor a DID"
        )
    return name


def _cursor_of(request: Request) -> dict[str, Any]:
    given = request.query_params.get("cursor")
    return {"cursor": given} if given else {}


def _next(request: Request, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    kept = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
    return "?" + urlencode([*kept, ("cursor", cursor)])
