"""The frame of all pages: templates, headers, errors, and the context of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import psycopg
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from appview.app import AppView
from appview.labelers import Labelers
from appview.session import RequestContext
from network.server.admission import working
from network.server.client_watch import watch_client
from network.server.outage import outage_error
from network.xrpc.server import XrpcError
from protocol.limits import MAX_PARAMETER_CHARS
from protocol.syntax import is_did, is_handle
from service.web.filters import FILTERS
from service.web.richtext import is_web_url

FOLDER: Final = Path(__file__).parent
PAGE_SIZE: Final = 25
SAME_ORIGIN: Final = {"Referrer-Policy": "same-origin"}
"""Without a referrer, browsers do not show that a form was sent from our page."""
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PLAIN_DID: Final = "did:web:"
_LONGEST_PATH: Final = 200
_LONGEST_QUERY: Final = 1_000

Page = Callable[[Request], dict[str, Any]]


class OddQueryError(Exception):
    """An invalid query parameter."""


class PageFrame:
    """The templates and headers that all pages share."""

    def __init__(self, app: AppView, threads: CapacityLimiter) -> None:
        self.app = app
        self._headers = _HEADERS | {"Content-Security-Policy": _policy(app)}
        self._threads = threads
        self.origin = public_origin(app.service_did)
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= FILTERS
        self._templates.globals["is_web_url"] = is_web_url
        self._templates.globals["static"] = _static_links()

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
                        self._answer,
                        template,
                        page,
                        sent,
                        request,
                        limiter=self._threads,
                    )
            except XrpcError as error:
                return PlainTextResponse(error.message, error.status, error.headers)

        return endpoint

    def not_found(self, request: Request, _: Exception) -> Response:
        """Return the page of a path that does not exist."""
        shown = request.url.path[:_LONGEST_PATH]
        values = {
            "title": "Not found",
            "message": f"There is no page at {shown}",
        }
        return self._render("error.html", values, request, 404, self._headers)

    def context(self, request: Request, nsid: str) -> RequestContext:
        """Return the context in which the methods of a page run."""
        return RequestContext(
            self.app,
            nsid,
            labelers=Labelers.default(self.app.default_labelers),
            for_page=True,
            is_client_gone=request.state.is_client_gone,
        )

    def _answer(
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
        return self._render(template, values, request, status, headers)

    def _render(
        self,
        template: str,
        values: Mapping[str, Any],
        request: Request,
        status: int,
        headers: Mapping[str, str],
    ) -> Response:
        common = {
            "path": request.url.path,
            "origin": self.origin,
            "marks": None,
            "q": request.query_params.get("q", "")[:_LONGEST_QUERY],
        }
        text = self._templates.get_template(template).render({**common, **values})
        # A text of a record may hold half of a surrogate pair.
        return HTMLResponse(text.encode("utf-8", "replace"), status, headers=headers)


def _static_links() -> dict[str, str]:
    """Return the address of each static file, which changes with its content."""
    files = (FOLDER / "static").iterdir()
    return {
        file.name: f"/static/{file.name}?{sha256(file.read_bytes()).hexdigest()[:12]}"
        for file in files
    }


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


def public_origin(service_did: str) -> str | None:
    """Return the https origin of a did:web, None for other DIDs and ports."""
    host = service_did.removeprefix(_PLAIN_DID)
    if host == service_did or "%" in host or ":" in host or "." not in host:
        return None
    return f"https://{host}"


def _check_query(request: Request) -> None:
    for name, value in request.query_params.multi_items():
        if "\0" in value:
            raise OddQueryError(f"{name[:80]}: contains a NUL character")
        if len(value) > MAX_PARAMETER_CHARS:
            raise OddQueryError(
                f"{name[:80]}: is longer than {MAX_PARAMETER_CHARS} characters"
            )


def account_name(request: Request) -> str:
    """Return the handle or DID in the path. Raises XrpcError."""
    name: str = request.path_params["actor"]
    if not (is_did(name) or is_handle(name)):
        raise XrpcError(
            "InvalidRequest", f"{name[:80]!r} is neither a handle nor a DID"
        )
    return name


def cursor_of(request: Request) -> dict[str, Any]:
    """Return the cursor of a request as parameters of a method."""
    given = request.query_params.get("cursor")
    return {"cursor": given} if given else {}


def next_page(request: Request, cursor: str | None) -> str | None:
    """Return the link to the next page; None at the end."""
    if cursor is None:
        return None
    kept = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
    return "?" + urlencode([*kept, ("cursor", cursor)])
