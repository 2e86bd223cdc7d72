"""Read routes for the log of a DID, shared by the directory and the mirror."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from jinja2 import Environment, StrictUndefined, Template
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from network.server.outage import outage_error
from plc.history import tell_history
from plc.operation import LogEntry
from plc.operation_document import operation_data, operation_document
from plc.operation_format import LegacyCreate, Operation, Tombstone, operation_json
from protocol.syntax import Did, is_plc_did

DOCUMENT_TYPE: Final = "application/did+ld+json"
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LogReads:
    """Routes that read logs.

    `read` returns a whole log, with nullified entries, empty for an unknown DID. Audit
    logs flag the operations in `tolerated`, accepted without a valid signature.
    """

    def __init__(
        self,
        read: Callable[[Did], list[LogEntry]],
        *,
        tolerated: Collection[str] = frozenset(),
    ) -> None:
        self._read = read
        self._tolerated = tolerated

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/{did}", self.document),
            Route("/{did}/data", self.data),
            Route("/{did}/log", self.log),
            Route("/{did}/log/audit", self.audit),
            Route("/{did}/log/last", self.last),
            Route("/{did}/history", self.history),
        ]

    def document(self, request: Request) -> Response:
        entry, operation = self._state(request)
        return _json(operation_document(entry.did, operation), DOCUMENT_TYPE)

    def data(self, request: Request) -> Response:
        entry, operation = self._state(request)
        return _json(operation_data(entry.did, operation))

    def log(self, request: Request) -> Response:
        return _json([operation_json(e.operation) for e in self._entries(request)])

    def audit(self, request: Request) -> Response:
        entries = self._entries(request, nullified=True)
        return _json(
            [
                entry.to_json()
                | ({"tolerated": True} if entry.cid in self._tolerated else {})
                for entry in entries
            ]
        )

    def last(self, request: Request) -> Response:
        return _json(operation_json(self._last(request).operation))

    def history(self, request: Request) -> Response:
        """Show the log in words, on a page."""
        steps = tell_history(self._entries(request, nullified=True))
        text = _page().render(did=steps[0].entry.did, steps=steps)
        return HTMLResponse(text, headers=_PAGE_HEADERS)

    def _entries(self, request: Request, *, nullified: bool = False) -> list[LogEntry]:
        did = _known_form(request)
        entries = self._read(did)
        if not entries:
            raise not_registered(did)
        return [entry for entry in entries if nullified or not entry.nullified]

    def _last(self, request: Request) -> LogEntry:
        return self._entries(request)[-1]

    def _state(self, request: Request) -> tuple[LogEntry, Operation | LegacyCreate]:
        entry = self._last(request)
        if isinstance(entry.operation, Tombstone):
            raise HTTPException(404, f"DID not available: {entry.did}")
        return entry, entry.operation


@cache
def _page() -> Template:
    source = Path(__file__).with_name("history.html").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(source)


def _known_form(request: Request) -> Did:
    did: str = request.path_params["did"]
    if not is_plc_did(did):
        raise not_registered(did[:80])
    return Did(did)


def not_registered(did: str) -> HTTPException:
    return HTTPException(404, f"DID not registered: {did}")


def _json(value: object, media_type: str = "application/json") -> Response:
    return Response(orjson.dumps(value), media_type=media_type)


def message(status: int, text: str, headers: Any = None) -> Response:
    """Return an error as directories send it."""
    return JSONResponse({"message": text}, status, headers)


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return message(error.status_code, error.detail, error.headers)


def _answer_outage(request: Request, error: Exception) -> Response:
    known = outage_error(error)
    if known is None:
        raise error
    return message(known.status, known.message, dict(known.headers))


def _answer_fault(request: Request, error: Exception) -> Response:
    return message(500, "Internal Server Error")


# Exception handlers of the read routes.
READ_FAULTS: Final[dict[Any, Any]] = {
    HTTPException: _answer_http_error,
    PoolTimeout: _answer_outage,
    psycopg.Error: _answer_outage,
    OSError: _answer_outage,
    Exception: _answer_fault,
}
