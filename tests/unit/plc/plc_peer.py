"""A directory that can lie, and a mirror that follows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from plc_accounts import NOW
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.server.listener import serving
from plc import operation_log
from plc.follow import Follower
from plc.mirror import Mirror
from plc.operation import format_time
from plc.operation_codec import unpack_did
from plc.operation_format import AnyOperation, operation_cid, operation_json
from protocol.syntax import Did
from storage.postgres.pool import Pool

DEV = Policy(
    allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000, concurrency=100)
)


def line(
    did: Did, operation: AnyOperation, created_ms: int, seq: int | None
) -> dict[str, Any]:
    value: dict[str, Any] = {
        "did": did,
        "operation": operation_json(operation),
        "cid": operation_cid(operation),
        "createdAt": format_time(created_ms),
    }
    return value | ({"nullified": False} if seq is None else {"seq": seq})


def body(*lines: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(x).encode() for x in lines)


class Peer:
    """A server of `lines` as an export of at most `most` a page, and of audit logs.

    `logs` and `statuses` hold the audit replies by DID; `requests` the export queries.
    """

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.logs: dict[str, Any] = {}
        self.statuses: dict[str, int] = {}
        self.numbered = True
        self.most = 1_000
        self.requests: list[str] = []

    def add(self, did: Did, operation: AnyOperation, created_ms: int) -> None:
        seq = len(self.lines) + 1 if self.numbered else None
        self.lines.append(line(did, operation, created_ms, seq))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/export", self.export),
                Route("/{did}/log/audit", self.audit),
            ]
        )

    def export(self, request: Request) -> Response:
        self.requests.append(str(request.url.query))
        count = min(int(request.query_params["count"]), self.most)
        after = request.query_params.get("after")
        if self.numbered:
            page = [x for x in self.lines if x["seq"] > int(after or 0)]
        elif after is not None and not after.startswith("20"):
            return JSONResponse({"message": "Invalid after parameter"}, 400)
        else:
            page = [x for x in self.lines if x["createdAt"] > (after or "")]
        return Response(body(*page[:count]))

    def audit(self, request: Request) -> Response:
        did = request.path_params["did"]
        log = self.logs.get(did)
        status = 200 if log is not None else 404
        return JSONResponse(log, self.statuses.get(did, status))


class Following:
    """A follower of a served directory, and views of its mirror."""

    def __init__(self, follower: Follower, pool: Pool, url: str) -> None:
        self.follower = follower
        self.pool = pool
        self.url = url
        self.catch_up = follower.catch_up
        self.retry_unproven = follower.retry_unproven

    def state(self) -> operation_log.FeedState:
        with self.pool.connection() as conn:
            return operation_log.load_feed(conn, self.url)

    def is_caught_up(self) -> bool:
        return self.state().caught_up_at is not None

    def logs(self, *dids: Did) -> list[list[str]]:
        return shown_logs(self.pool, *dids)

    def unproven(self) -> dict[Did, str]:
        with self.pool.connection() as conn:
            rows = conn.execute("SELECT did, reason FROM plc_doubt")
            return {unpack_did(bytes(did)): reason for did, reason in rows}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.follower.run(stop))
        yield
        stop.set()
        await asyncio.wait_for(task, 60)


@contextlib.asynccontextmanager
async def following(
    directory: Peer | Starlette, pool: Pool, **given: Any
) -> AsyncIterator[Following]:
    app = directory.app() if isinstance(directory, Peer) else directory
    options: dict[str, Any] = {"stream": False, "now": lambda: NOW / 1_000, **given}
    async with serving(app, "127.0.0.1", 0) as url, Fetcher(DEV) as fetcher:
        mirror = Mirror(url, dev=True)
        yield Following(Follower(mirror, pool, fetcher, rate=1e6, **options), pool, url)


def shown_logs(pool: Pool, *dids: Did) -> list[list[str]]:
    """Return the names of each log in order, those of nullified entries in brackets."""
    with pool.connection() as conn:
        found = operation_log.load_logs(conn, dids)
    shown = []
    for did in dids:
        names = []
        for item in found.get(did, []):
            name = getattr(item.operation, "also_known_as", ("gone",))[0]
            name = name.removeprefix("at://").partition(".")[0]
            names.append(f"[{name}]" if item.nullified else name)
        shown.append(names)
    return shown


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(done):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
