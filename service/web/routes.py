"""Routes of the pages, which read through the pipelines of the XRPC methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from appview.app import AppView
from crawler.settings import CrawlSettings
from network.xrpc.server import THREADS
from service.web.explain_page import ExplainPage
from service.web.feed_pages import FeedPages
from service.web.host_page import HostPages
from service.web.images import IMAGE_PATTERN, Images
from service.web.profile_page import ProfilePage
from service.web.proof_page import ProofPage
from service.web.rendering import FOLDER, SAME_ORIGIN, PageFrame
from service.web.search_page import SearchPage
from service.web.statistics.statistics_page import StatisticsPage
from service.web.status_page import StatusPage
from service.web.thread_page import ThreadPage
from service.web.write_page import WritePage


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
    frame = PageFrame(app, threads)
    feeds, status = FeedPages(frame), StatusPage(app, threads)
    statistics = StatisticsPage(app, threads)
    host_pages = HostPages(
        app.pool, settings or CrawlSettings(), threads, app.shared_buckets
    )
    show_host = frame.route("host.html", host_pages.page, SAME_ORIGIN)
    thread = ThreadPage(frame)
    return [
        *([images.route()] if images else ()),
        Route("/", frame.route("search.html", SearchPage(frame, feeds).page)),
        Route("/profile/{actor}", frame.route("profile.html", ProfilePage(frame).page)),
        Route("/post/{actor}/{rkey}", frame.route("thread.html", thread.page)),
        Route(
            "/proof/{did}/{collection}/{rkey}",
            frame.route("proof.html", ProofPage(frame).page),
        ),
        Route("/explain", frame.route("explain.html", ExplainPage(frame).page)),
        Route("/feeds", frame.route("feeds.html", feeds.gallery)),
        *WritePage(frame).routes(),
        Route("/feed/{name}", frame.route("feed.html", feeds.feed)),
        Route("/feed/{owner}/{name}", frame.route("feed.html", feeds.feed)),
        Route("/status", frame.route("status.html", status.page)),
        *statistics.routes(frame.route("statistics.html", statistics.page)),
        *host_pages.routes(show_host),
        Route("/status/counts.json", status.counts_json),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]


def show_unknown_paths(server: Starlette, app: AppView) -> None:
    """Let a server answer paths that it does not know with a page."""
    frame = PageFrame(app, CapacityLimiter(1))
    server.add_exception_handler(404, frame.not_found)
