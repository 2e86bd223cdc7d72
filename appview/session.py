"""A request: viewer, accepted labelers, and its read-only transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from appview.app import AppView
from appview.labelers import ACCEPT_LABELERS, CONTENT_LABELERS, Labelers, parse_labelers
from feeds.feedback import NO_FEEDBACK, Feedback
from feeds.served_feeds import FeedSet
from feeds.skeleton import Ranking
from network.xrpc.server import Call, XrpcError
from protocol.syntax import is_did
from storage.postgres.pool import Conn
from storage.private.private_state import NOTHING, PrivateState, load_private_state
from storage.private.takedowns import NOTHING as NONE_TAKEN_DOWN
from storage.private.takedowns import TakenDown
from storage.records.addresses import find_actors, find_handles

REPO_REV = "atproto-repo-rev"
STATEMENT_TIMEOUT_MS = 2_000
CLIENT_CLOSED_REQUEST = 499
_NO_LABELERS = Labelers()


@dataclass(frozen=True, slots=True)
class Viewer:
    """The signed-in account; `actor` is None if the index does not know it."""

    did: str
    actor: int | None


@dataclass(slots=True)
class RequestContext:
    """A request without a connection: hold none while waiting for anything else.

    `nsid` binds the cursors given out. `viewer_did` is the signed-in account.
    `for_page`: the request is of a page, without a client that applies labels and
    gates.
    """

    app: AppView
    nsid: str
    viewer_did: str | None = None
    labelers: Labelers = _NO_LABELERS
    for_page: bool = False
    is_client_gone: Callable[[], bool] = lambda: False
    repo_rev: str | None = None
    """The revision of the viewer's repo, known once a session was opened."""
    taken_down: TakenDown = NONE_TAKEN_DOWN
    """Takedowns at the time of the last session."""
    feedback: Feedback = NO_FEEDBACK
    """The viewer's feedback, for feeds that use it."""
    ranking: Ranking | None = None
    """The items of a feed that is ordered by another process."""
    _private: PrivateState | None = None
    _feeds: FeedSet | None = None

    @contextmanager
    def session(self, *, private: bool = True) -> Iterator[Session]:
        """Open a read-only transaction on one snapshot.

        Without `private`, the viewer's private state is not read.
        """
        self.check_client()
        # While no connection of the index is held.
        self.taken_down = self.app.takedowns.current(self.app.private)
        self.feeds()
        state = self._load_private() if private else NOTHING
        with self.app.pool.connection() as conn:
            # Planning for the given values takes four times as long as a statement.
            conn.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
                f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};"
                "SET LOCAL plan_cache_mode = force_generic_plan"
            )
            yield Session(self, conn, self._find_viewer(conn), state)

    def feeds(self) -> FeedSet:
        """Return the served feeds at the beginning of the request."""
        if self._feeds is None:
            app = self.app
            self._feeds = app.feeds.current(app.private, app.service_did)
        return self._feeds

    def check_client(self) -> None:
        """Raise XrpcError if the client has disconnected."""
        if self.is_client_gone():
            raise XrpcError(
                "ClientClosedRequest",
                "the client has disconnected",
                CLIENT_CLOSED_REQUEST,
            )

    def reply_headers(self) -> dict[str, str]:
        """Return the revision of the viewer's repo and the applied labelers."""
        headers = {}
        if self.labelers.dids:
            headers[CONTENT_LABELERS] = self.labelers.header()
        if self.repo_rev:
            headers[REPO_REV] = self.repo_rev
        return headers

    def _load_private(self) -> PrivateState:
        """Read private state once, while no connection of the index is held."""
        if self._private is None:
            self._private = NOTHING
            if self.viewer_did is not None:
                account = self.app.vault.account(self.viewer_did)
                with self.app.private.read() as conn:
                    self._private = load_private_state(conn, account)
        return self._private

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
        # Revision at the first session: everything shown is at least as new.
        self.repo_rev = self.repo_rev or row[1]
        return Viewer(self.viewer_did, row[0])


@dataclass(frozen=True, slots=True)
class Session:
    """A read-only transaction of a request."""

    context: RequestContext
    conn: Conn
    viewer: Viewer | None
    private: PrivateState
    """Mutes, bookmarks and subscriptions of the viewer."""

    @property
    def app(self) -> AppView:
        """Return the read side."""
        return self.context.app

    @property
    def taken_down(self) -> TakenDown:
        """Return the takedowns in force."""
        return self.context.taken_down

    @property
    def feeds(self) -> FeedSet:
        """Return the served feeds."""
        return self.context.feeds()

    @property
    def viewer_actor(self) -> int | None:
        """Return the viewer's actor id, if both are known."""
        return self.viewer.actor if self.viewer else None

    def find_actor(self, identifier: str) -> int | None:
        """Return the actor id of a known DID or handle."""
        did = self.find_did(identifier)
        return None if did is None else find_actors(self.conn, [did]).get(did)

    def find_did(self, identifier: str) -> str | None:
        """Return a DID as it is, and the DID of a known handle."""
        if is_did(identifier):
            return identifier
        return find_handles(self.conn, [identifier]).get(identifier.lower())


def context_of(app: AppView, call: Call) -> RequestContext:
    """Return the context of an XRPC request."""
    lines = call.headers.getlist(ACCEPT_LABELERS)
    accepted = ", ".join(lines) if lines else None
    return RequestContext(
        app,
        call.nsid,
        viewer_did=call.auth.did if call.auth else None,
        labelers=parse_labelers(accepted, app.default_labelers).among(
            app.default_labelers
        ),
        is_client_gone=call.is_client_gone,
    )
