"""A directory that can lie, and identities to register there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from plc.operation import (
    AnyOperation,
    LogEntry,
    Operation,
    create_genesis,
    create_update,
    format_time,
    operation_cid,
    operation_json,
)
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did

OWNER = PrivateKey.from_bytes("k256", b"\x51" * 32)
SERVER = PrivateKey.from_bytes("k256", b"\x52" * 32)
THIEF = PrivateKey.from_bytes("k256", b"\x53" * 32)
NOW = 1_790_000_000_000


def genesis(number: int, pds: str = "https://pds.example.com") -> tuple[Did, Operation]:
    return create_genesis(
        signing_key=SERVER.public.did_key,
        rotation_keys=[OWNER.public.did_key, SERVER.public.did_key],
        handle=f"n{number}.example.com",
        pds_url=pds,
        signer=SERVER,
    )


def entry(did: Did, operation: AnyOperation, created_ms: int) -> LogEntry:
    return LogEntry(did, operation, operation_cid(operation), False, created_ms)


def rename(last: Any, number: int, signer: PrivateKey = SERVER) -> Operation:
    return create_update(last, signer, handle=f"r{number}.example.com")


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


class Peer:
    """Serves `lines` as an export of at most `most` a page, and `logs` as audit logs,
    whatever they are, with `statuses`."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.logs: dict[str, Any] = {}
        self.statuses: dict[str, int] = {}
        self.numbered = True
        self.most = 1_000
        self.asked: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None

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
        self.asked.append(str(request.url.query))
        self.before_answer()
        count = min(int(request.query_params["count"]), self.most)
        after = request.query_params.get("after")
        if self.numbered:
            page = [x for x in self.lines if x["seq"] > int(after or 0)]
        elif after is not None and not after.startswith("20"):
            return JSONResponse({"message": "Invalid after parameter"}, 400)
        else:
            page = [x for x in self.lines if x["createdAt"] > (after or "")]
        return Response("\n".join(json.dumps(x) for x in page[:count]))

    def audit(self, request: Request) -> Response:
        did = request.path_params["did"]
        log = self.logs.get(did)
        status = 200 if log is not None else 404
        return JSONResponse(log, self.statuses.get(did, status))
