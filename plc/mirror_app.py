"""The mirror over HTTP: a read-only directory of proven logs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from network.server.readiness import Readiness
from network.server.request_guard import RequestGuard
from plc import operation_log
from plc.log_reads import READ_FAULTS, LogReads
from plc.operation import LogEntry
from protocol.syntax import Did
from storage.postgres.pool import Pool, ping

_NOT_ALLOWED: Final = 405


def create_mirror_app(
    pool: Pool,
    directory: str,
    *,
    tolerated: Collection[str] = frozenset(),
    version: str = "0",
    guard: RequestGuard | None = None,
) -> Starlette:
    """Return the mirror of `directory` in the index database of `pool`.

    `tolerated` are the CIDs that it accepts without a valid signature.
    """
    directory = directory.rstrip("/")

    def read(did: Did) -> list[LogEntry]:
        with pool.connection() as conn:
            return operation_log.load_logs(conn, [did]).get(did, [])

    def index(request: Request) -> Response:
        return PlainTextResponse(f"A mirror of {directory}. GET /{{did}}.\n")

    def health(request: Request) -> Response:
        with pool.connection() as conn:
            state = operation_log.load_feed(conn, directory)
        at = state.caught_up_at
        return JSONResponse(
            {
                "version": version,
                "directory": directory,
                "seq": state.seq,
                "operations": state.operations,
                "caughtUpAt": at.isoformat() if at else None,
                "error": state.error,
            }
        )

    def refuse(request: Request) -> Response:
        raise HTTPException(_NOT_ALLOWED, f"Operations are sent to {directory}")

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/_health", health),
            Readiness(lambda: ping(pool)).route(),
            Route("/{did}", refuse, methods=["POST"]),
            *LogReads(read, tolerated=tolerated).routes(),
        ],
        middleware=[
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET"]),
            Middleware((guard or RequestGuard()).middleware, hold_slots=True),
        ],
        exception_handlers=READ_FAULTS,
    )
    # A redirect would go to the host that the request names.
    app.router.redirect_slashes = False
    return app
