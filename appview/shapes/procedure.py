"""Changes of the viewer's private state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext, Session
from network.xrpc.server import AuthMode, XrpcError
from protocol.syntax import is_did
from storage.postgres.pool import Conn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PrivateChange(BlockingMethod, Generic[T]):
    """A procedure that reads the index, then writes to the private database.

    It holds one connection at a time. `write` is given the viewer's DID.
    """

    find: Callable[[Session, Params], T]
    write: Callable[[Conn, str, T], None]
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> None:
        viewer = require_account_of(context)
        with context.session() as session:
            found = self.find(session, params)
        with context.app.private.write() as conn:
            self.write(conn, viewer, found)


def require_account_of(context: RequestContext) -> str:
    """Return the viewer's DID; raise XrpcError for a service of an account."""
    did = context.viewer_did
    if did is None or not is_did(did):
        raise XrpcError("InvalidToken", "the token is not an account's own", 401)
    return did
