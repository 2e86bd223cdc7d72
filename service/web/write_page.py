"""The page on which a recipe is written, with the posts that it will serve beside it.

The preview runs the code that serves getFeed. Without scripts the form is posted; a
small script posts it while the author writes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from appview.app import AppView
from appview.session import STATEMENT_TIMEOUT_MS, RequestContext
from appview.shapes.feed_preview import preview_feed
from feeds.recipes.compiling import CompiledRecipe
from feeds.recipes.fields import InvalidRecipeError, name_path
from feeds.recipes.parsing import parse_recipe
from feeds.recipes.recipe import MAX_RECIPE_BYTES
from feeds.recipes.saving import prepare_recipe
from feeds.registry import FEEDS
from feeds.serving.drafts import draft_feed
from feeds.serving.explaining import Explanation, explain_empty, explain_post
from feeds.serving.recipe_feed import RecipeFeed, Shared
from network.server.admission import client_key
from network.server.rate_limit import RateLimit
from network.xrpc.server import XrpcError
from protocol.syntax import is_at_uri
from search.engines.contract import TooCostlyError
from service.web.host_page import from_our_page
from service.web.rendering import SAME_ORIGIN, PageFrame
from storage.collections import FEED_GENERATOR, FEED_POST
from storage.postgres.pool import Conn

PATH: Final = "/feeds/write"
POSTS: Final = 20
"""Posts of a preview."""
SEARCHED: Final = 300
"""Newest posts of each source that a preview searches."""
PREVIEWS: Final = 60
"""Previews of a client in a minute."""
_WINDOW_S: Final = 60.0
_AT_ONCE: Final = 2
_WAIT_S: Final = 2.0
_SEARCH_S: Final = 2.0
_CHUNKS: Final = 5
_MAX_BODY: Final = 3 * MAX_RECIPE_BYTES + 10_000
_MAX_SOURCE_LINE: Final = 200
_NOBODY: Final = ""
EXAMPLE: Final = """\
name = "kingfishers"
title = "Kingfishers"
description = "Herons and kingfishers, two posts of one account at most."

[[source]]
search = "heron OR kingfisher"

[filter]
replies = "no"

[rank]
by = "popular"
per_author = 2
"""


@dataclass(slots=True)
class Draft:
    """The values of the template for a text."""

    text: str
    name: str | None = None
    posts: list[dict[str, Any]] | None = None
    empty: list[str] = field(default_factory=list)
    problem: str | None = None
    line: int | None = None
    source_line: str = ""
    asked: str = ""
    explanation: Explanation | None = None

    def refuse(self, error: InvalidRecipeError) -> None:
        """Note the fault of a recipe with its line."""
        self.problem = f"{name_path(error.path)}{error.reason}"
        lines = self.text.split("\n")
        if error.line is not None and 0 < error.line <= len(lines):
            self.line = error.line
            self.source_line = lines[error.line - 1][:_MAX_SOURCE_LINE]


class WritePage:
    """The page and its form. A client has a limit, and few previews run at once."""

    def __init__(self, frame: PageFrame) -> None:
        self._frame = frame
        shared = frame.app.shared_buckets
        buckets = shared and shared.named("feed previews")
        self._limit = RateLimit(PREVIEWS, _WINDOW_S, buckets=buckets)
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        # Apart from served feeds, whose chunks must not leave for those of drafts.
        self._drafts = Shared()

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the page and of its form."""
        show = self._frame.route("write.html", self.page, SAME_ORIGIN)

        async def submit(request: Request) -> Response:
            if not from_our_page(request):
                return PlainTextResponse("use the form on the page", 403)
            body = b""
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY:
                    return PlainTextResponse("the form is too large", 413)
            try:
                fields = dict(parse_qsl(body.decode(), max_num_fields=10))
            except ValueError:
                return PlainTextResponse("the form is malformed", 400)
            text = _plain(fields.get("recipe", ""))
            if fields.get("action") == "download":
                return _download(text)
            try:
                self._limit.take(client_key(request.scope))
            except XrpcError as error:
                headers = dict(error.headers)
                return PlainTextResponse(error.message, error.status, headers)
            request.state.recipe = text
            # A button names the post, or the author has typed one.
            asked = fields.get("explain") or fields.get("ask", "")
            request.state.explain = asked.strip()
            response: Response = await show(request)
            return response

        return [Route(PATH, show), Route(PATH, submit, methods=["POST"])]

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        text = getattr(request.state, "recipe", None)
        draft = Draft(EXAMPLE if text is None else text)
        if text is not None:
            context = self._frame.context(request, request.url.path)
            self._preview(context, draft, request.state.explain)
        provider = self._frame.origin or str(request.base_url).rstrip("/")
        return {"title": "Write a feed", "draft": draft, "provider": provider}

    def _preview(self, context: RequestContext, draft: Draft, asked: str) -> None:
        """Fill a draft with posts, or with the reason why there are none."""
        if not self._slots.acquire(timeout=_WAIT_S):
            draft.problem = "too many previews run at once: try again in a moment"
            return
        try:
            feed, stored = self._open(context.app, draft)
            self._show(context, feed, draft, stored=stored)
            if asked:
                draft.asked = asked
                draft.explanation = self._explain(context, feed, asked, stored=stored)
        except InvalidRecipeError as error:
            draft.refuse(error)
        except (TooCostlyError, psycopg.errors.QueryCanceled):
            draft.problem = "the search takes too long: narrow a source or a filter"
        finally:
            self._slots.release()

    def _open(self, app: AppView, draft: Draft) -> tuple[RecipeFeed, bool]:
        """Return the feed of a text. Raises InvalidRecipeError or TooCostlyError."""
        name = parse_recipe(draft.text).name
        if name in FEEDS:
            raise InvalidRecipeError(f"{name} is a built-in feed", path=("name",))
        draft.name = name
        # Saved searches are private: the page has those of nobody.
        compiled: CompiledRecipe = prepare_recipe(
            app.private, lambda: _limited(app), _NOBODY, draft.text
        )
        return draft_feed(
            app.pool,
            app.engine,
            compiled,
            self._drafts,
            most=SEARCHED,
            seconds=_SEARCH_S,
        )

    def _show(
        self, context: RequestContext, feed: RecipeFeed, draft: Draft, *, stored: bool
    ) -> None:
        uri = f"at://{context.app.service_did}/{FEED_GENERATOR}/{draft.name}"
        try:
            page = preview_feed(context, feed.algorithm, {"feed": uri, "limit": POSTS})
        except XrpcError as error:
            if error.status >= 500:
                raise
            draft.posts, draft.empty = [], [error.message]
            return
        draft.posts = [item["post"] for item in page["feed"]]
        if not draft.posts:
            with _limited(context.app) as conn:
                draft.empty = explain_empty(
                    conn, feed, None, stored=stored, chunks=_CHUNKS
                )

    def _explain(
        self, context: RequestContext, feed: RecipeFeed, asked: str, *, stored: bool
    ) -> Explanation:
        uri = _post_uri(asked)
        if uri is None:
            return Explanation(None, ("this is neither an AT-URI nor a post's page",))
        with _limited(context.app) as conn:
            return explain_post(conn, feed, uri, None, stored=stored, chunks=_CHUNKS)


def _plain(text: str) -> str:
    """Return a text with the line ends of a file; forms send others."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _post_uri(text: str) -> str | None:
    """Return the AT-URI of a record, also of a post's page here; else None."""
    if text.startswith("at://"):
        return text if is_at_uri(text) and text.count("/") == 4 else None
    parts = urlsplit(text).path.strip("/").split("/")
    if len(parts) != 3 or parts[0] != "post":
        return None
    uri = f"at://{unquote(parts[1])}/{FEED_POST}/{unquote(parts[2])}"
    return uri if is_at_uri(uri) else None


def _download(text: str) -> Response:
    try:
        name = parse_recipe(text).name
    except InvalidRecipeError:
        name = "recipe"
    return PlainTextResponse(
        text.encode("utf-8", "replace"),
        headers={
            "Content-Disposition": f'attachment; filename="{name}.toml"',
            "X-Content-Type-Options": "nosniff",
        },
    )


@contextmanager
def _limited(app: AppView) -> Iterator[Conn]:
    with app.pool.connection() as conn:
        conn.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        yield conn
