"""One request: who asks, whose labels they want, and its read-only transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from appview.app import AppView
from appview.labelers import (
    ACCEPT_LABELERS,
    CONTENT_LABELERS,
    Labelers,
    parse_labelers,
)
from network.xrpc.server import Call, XrpcError
from protocol.syntax import is_did
from storage.postgres.pool import Conn
from storage.records.addresses import find_actors, find_handles

REPO_REV = "atproto-repo-rev"
STATEMENT_TIMEOUT_MS = 2_000
CLIENT_CLOSED_REQUEST = 499
_NO_LABELERS = Labelers()


@dataclass(frozen=True, slots=True)
class Viewer:
    """The signed-in account; `actor` is None while we know nothing of it."""

    did: str
    actor: int | None


@dataclass(slots=True)
class RequestContext:
    """One request, without a connection: hold none while waiting for anything else.

    `nsid` binds the cursors given out. `viewer_did` is the account that asks.
    `for_page`: a page of ours asks, so no client applies labels and gates.
    """

    app: AppView
    nsid: str
    viewer_did: str | None = None
    labelers: Labelers = _NO_LABELERS
    for_page: bool = False
    is_client_gone: Callable[[], bool] = lambda: False
    repo_rev: str | None = None
    """The revision of the viewer's repo, known once a session was opened."""

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a read-only transaction that sees one moment."""
        self.check_client()
        with self.app.pool.connection() as conn:
            conn.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
                f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"
            )
            yield Session(self, conn, self._find_viewer(conn))

    def check_client(self) -> None:
        """Raise XrpcError if nobody waits for the answer any more."""
        if self.is_client_gone():
            raise XrpcError(
                "ClientClosedRequest", "the client is gone", CLIENT_CLOSED_REQUEST
            )

    def reply_headers(self) -> dict[str, str]:
        """Return how fresh the viewer's own data is, and whose labels were applied."""
        headers = {}
        if self.labelers.dids:
            headers[CONTENT_LABELERS] = self.labelers.header()
        if self.repo_rev:
            headers[REPO_REV] = self.repo_rev
        return headers

    def _find_viewer(self, conn: Conn) -> Viewer | None:
        if self.viewer_did is None:
            return None
        row = conn.execute(
            "SELECT a.id, r.rev FROM actor a LEFT JOIN repo r ON r.actor = a.id"
            " WHERE a.did = %s",
            (self.viewer_did,),
        ).fetchone()
        if row is None:
            return Viewer(self.viewer_did, None)
        # The first session's: everything shown is at least as new.
        self.repo_rev = self.repo_rev or row[1]
        return Viewer(self.viewer_did, row[0])


@dataclass(frozen=True, slots=True)
class Session:
    """A read-only transaction of a request."""

    context: RequestContext
    conn: Conn
    viewer: Viewer | None

    @property
    def app(self) -> AppView:
        """The read side that answers."""
        return self.context.app

    @property
    def nsid(self) -> str:
        """The method that was called."""
        return self.context.nsid

    @property
    def labelers(self) -> Labelers:
        """The labelers that the request accepts."""
        return self.context.labelers

    @property
    def for_page(self) -> bool:
        """Read by a page of ours: no client applies labels and gates to the answer."""
        return self.context.for_page

    @property
    def viewer_actor(self) -> int | None:
        """The viewer's actor id, if both are known."""
        return self.viewer.actor if self.viewer else None

    def find_actor(self, identifier: str) -> int | None:
        """Return the actor id of a DID or a handle that the index knows."""
        if not is_did(identifier):
            did = find_handles(self.conn, [identifier]).get(identifier.lower())
            if did is None:
                return None
            identifier = did
        return find_actors(self.conn, [identifier]).get(identifier)


def context_of(app: AppView, call: Call) -> RequestContext:
    """Return the context of an XRPC request."""
    lines = call.headers.getlist(ACCEPT_LABELERS)
    accepted = ", ".join(lines) if lines else None
    return RequestContext(
        app,
        call.nsid,
        viewer_did=call.auth.did if call.auth else None,
        labelers=parse_labelers(accepted, app.default_labelers),
        is_client_gone=call.is_client_gone,
    )
