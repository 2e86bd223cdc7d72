"""The directory over HTTP: its routes and error replies.

Paths, bodies and statuses are those of the reference directory. Only lost races and
rate limits have a status of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from network.errors import XrpcError
from network.server.readiness import Readiness
from network.server.request_guard import RequestGuard
from network.xrpc.request_body import read_body
from plc import ledger
from plc.log_reads import READ_FAULTS, LogReads, message
from plc.operation import (
    HOUR_MS,
    LogEntry,
    MisorderedOperationError,
    OutrankedError,
    QuotaExceededError,
)
from plc.operation_format import LegacyCreate, Operation, Tombstone, parse_operation
from plc.stream import POLL_S, SEND_TIMEOUT_S, ExportStream
from plc.submission_limits import SubmissionLimits
from protocol.data.json_form import loads
from protocol.errors import InvalidSyntaxError, ProtocolError
from protocol.syntax import Did, datetime_us, is_plc_did
from storage.postgres.pool import Pool, ping

# 4 KB of operation with every character escaped in JSON.
MAX_BODY_BYTES: Final = 32_768
MAX_EXPORT_COUNT: Final = 1_000
_BODY_S: Final = 10.0

LINES_TYPE: Final = "application/jsonlines"

_CONFLICT: Final = 409
_TOO_MANY: Final = 429


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


def create_app(
    pool: Pool,
    *,
    now_ms: Callable[[], int] = clock_ms,
    version: str = "0",
    poll_s: float = POLL_S,
    send_timeout_s: float = SEND_TIMEOUT_S,
    guard: RequestGuard | None = None,
    limits: SubmissionLimits | None = None,
) -> Starlette:
    """Return the directory on a database migrated to `plc`.

    `now_ms` is the clock. A stream polls every `poll_s` seconds for operations that
    another process accepted, and closes if a reader takes longer than `send_timeout_s`
    for a message.
    """
    stream = ExportStream(pool, now_ms, poll_s=poll_s, send_timeout_s=send_timeout_s)
    directory = _Directory(pool, stream, now_ms, version, limits or SubmissionLimits())
    ready = Readiness(lambda: ping(pool))
    app = Starlette(
        routes=[
            ready.route(),
            *directory.routes(),
            WebSocketRoute("/export/stream", stream.serve),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            ),
            Middleware((guard or RequestGuard()).middleware, hold_slots=True),
        ],
        exception_handlers={
            **READ_FAULTS,
            ProtocolError: _answer_refusal,
            XrpcError: _answer_error,
        },
    )
    # A redirect would go to the host that the request names.
    app.router.redirect_slashes = False
    return app


class _Directory:
    def __init__(
        self,
        pool: Pool,
        stream: ExportStream,
        now_ms: Callable[[], int],
        version: str,
        limits: SubmissionLimits,
    ) -> None:
        self._pool = pool
        self._stream = stream
        self._now_ms = now_ms
        self._version = version
        self._limits = limits

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.index),
            Route("/_health", self.health),
            Route("/export", self.export),
            Route("/export/stream", self.demand_upgrade),
            Route("/{did}", self.submit, methods=["POST"]),
            *LogReads(self._read).routes(),
        ]

    def index(self, request: Request) -> Response:
        return PlainTextResponse("A did:plc directory. GET /{did} for a document.\n")

    def health(self, request: Request) -> Response:
        with self._pool.connection() as conn:
            conn.execute("SELECT 1")
        return JSONResponse({"version": self._version})

    def _read(self, did: Did) -> list[LogEntry]:
        with self._pool.connection() as conn:
            return ledger.read_log(conn, did, nullified=True)

    def export(self, request: Request) -> Response:
        count = _count(request.query_params.get("count"))
        after = request.query_params.get("after")
        lines: list[dict[str, object]]
        with self._pool.connection() as conn:
            number = None if after is None else ledger.parse_number(after)
            if number is not None:
                rows = ledger.export_after_seq(conn, number, count)
                lines = [row.to_json() for row in rows]
            else:
                after_ms = _time(after) if after else None
                entries = ledger.export_after_time(conn, after_ms, count)
                lines = [entry.to_json() for entry in entries]
        body = b"\n".join(orjson.dumps(line) for line in lines)
        return Response(body, media_type=LINES_TYPE)

    def demand_upgrade(self, request: Request) -> Response:
        raise HTTPException(426, "upgrade required", {"Upgrade": "websocket"})

    async def submit(self, request: Request) -> Response:
        did = request.path_params["did"]
        if not is_plc_did(did):
            raise HTTPException(400, "Not a did:plc")
        operation = parse_operation(
            loads(await read_body(request, MAX_BODY_BYTES, total=_BODY_S))
        )
        if isinstance(operation, LegacyCreate):
            raise HTTPException(400, "Operations of type create are not accepted")
        self._limits.take(request, operation)
        await run_in_threadpool(self._accept, Did(did), operation)
        self._stream.notify()
        return PlainTextResponse("OK")

    def _accept(self, did: Did, operation: Operation | Tombstone) -> None:
        with self._pool.connection() as conn:
            ledger.accept(conn, did, operation, self._now_ms())


def _count(text: str | None) -> int:
    count = ledger.parse_number(text) if text else MAX_EXPORT_COUNT
    if not count:
        raise HTTPException(400, "Invalid count parameter")
    return min(count, MAX_EXPORT_COUNT)


def _time(text: str) -> int:
    try:
        return datetime_us(text) // 1000
    except InvalidSyntaxError as error:
        raise HTTPException(400, "Invalid after parameter") from error


def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, XrpcError)
    return message(error.status, error.message, dict(error.headers))


def _answer_refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, QuotaExceededError):
        retry = {"Retry-After": str(HOUR_MS // 1000)}
        return message(_TOO_MANY, f"Too many operations: {error}", retry)
    conflict = isinstance(error, MisorderedOperationError | OutrankedError)
    return message(_CONFLICT if conflict else 400, f"Operation refused: {error}")
