"""com.atproto.identity.resolve*: documents and handles of any account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from network.errors import (
    DidNotFoundError,
    DidTombstonedError,
    HandleMismatchError,
    IdentityError,
    NetworkError,
    UnsupportedDidError,
    XrpcError,
)
from network.errors import HandleNotFoundError as NoSuchHandleError
from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext
from pds.exceptions import HandleNotFoundError, UpstreamFailureError
from pds.server.accounts import handle_owner
from protocol.identity.did_document import DidDocument
from protocol.syntax import INVALID_HANDLE, normalize_handle

_NS: Final = "com.atproto.identity"


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _ResolutionMethods(host)
    server.add(f"{_NS}.resolveDid", methods.resolve_did)
    server.add(f"{_NS}.resolveIdentity", methods.resolve_identity)
    server.add(f"{_NS}.refreshIdentity", methods.refresh_identity, "required")


class _ResolutionMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host

    async def resolve_did(self, call: Call) -> dict[str, Any]:
        with _naming_errors():
            document = await self._host.identity.resolve_json(call.params["did"])
        return {"didDoc": document}

    async def resolve_identity(self, call: Call) -> dict[str, Any]:
        with _naming_errors():
            return await self._find(call.params["identifier"], refresh=False)

    async def refresh_identity(self, call: Call) -> dict[str, Any]:
        identifier = call.input["identifier"]
        self._host.limits.refresh_identity(call, call.viewer.did, identifier)
        with _naming_errors():
            return await self._find(identifier, refresh=True)

    async def _find(self, identifier: str, *, refresh: bool) -> dict[str, Any]:
        identity = self._host.identity
        asked = None
        did = identifier
        if not identifier.startswith("did:"):
            asked = normalize_handle(identifier)
            # Handles of this server need no lookup.
            owner = await self._host.run(self._owner, asked)
            did = owner or await identity.resolve_handle(asked, refresh=refresh)
        document = await identity.resolve_did(did, refresh=refresh)
        if asked is not None and asked not in document.handles[:1]:
            raise HandleNotFoundError(f"{did} does not claim {asked}")
        handle = await self._verified(document, refresh=refresh)
        return {
            "did": document.did,
            "handle": handle or INVALID_HANDLE,
            "didDoc": await identity.resolve_json(did),
        }

    async def _verified(self, document: DidDocument, *, refresh: bool) -> str | None:
        """Return the handle of a document if it points back; else None."""
        if not document.handles:
            return None
        handle = document.handles[0]
        if await self._host.run(self._owner, handle) == document.did:
            return handle
        return await self._host.identity.verify_handle(document, refresh=refresh)

    def _owner(self, handle: str) -> str | None:
        with self._host.reading() as conn:
            return handle_owner(conn, handle)


@contextmanager
def _naming_errors() -> Iterator[None]:
    """Raise lookup failures by the names of the lexicons."""
    try:
        yield
    except DidTombstonedError as error:
        raise XrpcError("DidDeactivated", str(error)) from error
    except (DidNotFoundError, UnsupportedDidError) as error:
        raise XrpcError("DidNotFound", str(error)) from error
    except (NoSuchHandleError, HandleMismatchError) as error:
        raise HandleNotFoundError(str(error)) from error
    except IdentityError as error:
        raise XrpcError("DidNotFound", str(error)) from error
    except NetworkError as error:
        raise UpstreamFailureError(f"identity lookup failed: {error}") from error
