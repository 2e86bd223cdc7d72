"""com.atproto.identity.*, and the well-known files of this server and its handles."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from network.errors import IdentityError, XrpcError
from network.server.admission import client_address
from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of
from pds.exceptions import (
    HandleNotFoundError,
    UpstreamFailureError,
    UpstreamTimeoutError,
)
from pds.identity.handle_change import HandleChange
from pds.identity.handles import (
    is_local,
)
from pds.proxy import ProxyRequest
from pds.server.accounts import (
    handle_owner,
    require_writable,
)
from protocol.data import json_form
from protocol.errors import ProtocolError
from protocol.identity.did_document import PDS_SERVICE, PDS_TYPE
from protocol.syntax import is_did, normalize_handle

_NS: Final = "com.atproto.identity"
RESOLVE_HANDLE: Final = f"{_NS}.resolveHandle"

_DID_CONTEXT: Final = "https://www.w3.org/ns/did/v1"


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _IdentityMethods(host)
    server.add(RESOLVE_HANDLE, methods.resolve_handle)
    server.add(f"{_NS}.updateHandle", methods.update_handle, "required")


def well_known_routes(host: PdsContext) -> list[Route]:
    """Return the routes of `atproto-did` by Host header, and of `did.json`."""

    def atproto_did(request: Request) -> Response:
        name = request.headers.get("host", "").partition(":")[0].lower()
        if not name.isascii() or "\0" in name:
            return PlainTextResponse("User not found", 404)
        with host.reading() as conn:
            did = handle_owner(conn, name)
        if did is None:
            return PlainTextResponse("User not found", 404)
        return PlainTextResponse(did)

    async def did_document(request: Request) -> Response:
        return JSONResponse(
            {
                "@context": [_DID_CONTEXT],
                "id": host.settings.service_did,
                "service": [
                    {
                        "id": PDS_SERVICE,
                        "type": PDS_TYPE,
                        "serviceEndpoint": host.settings.origin,
                    }
                ],
            }
        )

    return [
        Route("/.well-known/atproto-did", atproto_did),
        Route("/.well-known/did.json", did_document),
    ]


class _IdentityMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host
        self._handles = HandleChange(host)

    async def resolve_handle(self, call: Call) -> dict[str, Any]:
        handle = normalize_handle(call.params["handle"])
        did = await self._host.run(self._owner, handle)
        if did is None and is_local(handle, self._host.settings.domains):
            raise HandleNotFoundError("Unable to resolve handle")
        if did is None:
            did = await self._ask_indexer(call, handle)
        if did is None:
            try:
                did = await self._host.identity.resolve_handle(handle)
            except IdentityError as error:
                raise HandleNotFoundError("Unable to resolve handle") from error
        return {"did": did}

    async def _ask_indexer(self, call: Call, handle: str) -> str | None:
        """Return the DID that the default indexer has for a handle of another server.

        The indexer knows of renames at once; our own resolver caches old results. None
        if it cannot be asked. Raises HandleNotFoundError.
        """
        target = self._host.proxy.default
        if target is None:
            return None
        query = urlencode({"handle": handle})
        request = ProxyRequest(
            RESOLVE_HANDLE,
            query,
            call.headers,
            None,
            client_address(call.request.scope),
        )
        try:
            reply = await self._host.proxy.forward(target, request, token=None)
        except (XrpcError, UpstreamFailureError, UpstreamTimeoutError):
            return None
        if 400 <= reply.status < 500 and reply.status != 429:
            raise HandleNotFoundError("Unable to resolve handle")
        try:
            did = json_form.loads(reply.body).get("did")
        except (ProtocolError, AttributeError):
            return None
        return did if isinstance(did, str) and is_did(did) else None

    async def update_handle(self, call: Call) -> None:
        account = login_of(call).account
        require_writable(account)
        self._host.limits.change_handle(call, account.did)
        await self._handles.apply(account, call.input["handle"])

    def _owner(self, handle: str) -> str | None:
        with self._host.reading() as conn:
            return handle_owner(conn, handle)
