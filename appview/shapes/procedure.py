"""Changes of the viewer's private state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext, Session
from network.xrpc.server import AuthMode, XrpcError
from protocol.syntax import is_did
from storage.postgres.pool import Conn
from storage.private.private_items import TooManyItemsError
from storage.private.sealing import Account

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PrivateChange(BlockingMethod, Generic[T]):
    """A procedure that reads the index, then writes to the private database.

    It holds one connection at a time. `write` is given the keys of the viewer.
    """

    find: Callable[[Session, Params], T]
    write: Callable[[Conn, Account, T], None]
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> None:
        account = private_account_of(context)
        with context.session(private=False) as session:
            found = self.find(session, params)
        with context.app.private.write() as conn, refusing_too_many():
            self.write(conn, account, found)


@dataclass(frozen=True, slots=True)
class PrivateWrite(BlockingMethod):
    """A procedure that only writes to the private database."""

    write: Callable[[Conn, Account, Params], dict[str, Any] | None]
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any] | None:
        account = private_account_of(context)
        with context.app.private.write() as conn, refusing_too_many():
            return self.write(conn, account, params)


@dataclass(frozen=True, slots=True)
class PrivateRead(BlockingMethod):
    """A query that only reads the private database."""

    read: Callable[[Conn, Account, Params], dict[str, Any]]
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        account = private_account_of(context)
        with context.app.private.read() as conn:
            return self.read(conn, account, params)


@contextmanager
def refusing_too_many() -> Iterator[None]:
    """Turn TooManyItemsError into the client's error."""
    try:
        yield
    except TooManyItemsError as error:
        raise XrpcError("InvalidRequest", str(error), 400) from error


def require_uri_of(
    uri: str, collection: str, error: str = "InvalidRequest", *, what: str = "subject"
) -> str:
    """Return the AT-URI of a record of a collection. Raises XrpcError for another."""
    parts = uri.removeprefix("at://").split("/")
    if len(parts) != 3 or parts[1] != collection:
        raise XrpcError(error, f"the {what} must be a record of {collection}", 400)
    return uri


def private_account_of(context: RequestContext) -> Account:
    """Return the keys of the viewer's private state; see `require_account_of`."""
    return context.app.vault.account(require_account_of(context))


def require_account_of(context: RequestContext) -> str:
    """Return the viewer's DID; raise XrpcError for a service of an account."""
    did = context.viewer_did
    if did is None or not is_did(did):
        raise XrpcError("InvalidToken", "the token is not an account's own", 401)
    return did
