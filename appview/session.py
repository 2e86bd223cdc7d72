"""One request: its connection, who asks, and whose labels they want."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from appview.app import AppView
from appview.labelers import (
    ACCEPT_LABELERS,
    CONTENT_LABELERS,
    Labelers,
    parse_labelers,
)
from network.cursor import open_cursor, seal_cursor
from network.xrpc_server import Call
from protocol.syntax import is_did
from storage.addresses import find_actors, find_handles

REPO_REV = "atproto-repo-rev"
STATEMENT_TIMEOUT_MS = 2_000
_NO_LABELERS = Labelers()


@dataclass(frozen=True, slots=True)
class Viewer:
    """The signed-in account; `actor` is None while we know nothing of it."""

    did: str
    actor: int | None


@dataclass(frozen=True, slots=True)
class Session:
    """What every step of a request may use."""

    app: AppView
    conn: psycopg.Connection[Any]
    nsid: str
    viewer: Viewer | None
    labelers: Labelers
    for_page: bool = False
    """Read by a page of ours: no client applies labels and gates to the answer."""

    @property
    def viewer_actor(self) -> int | None:
        """The viewer's actor id, if both are known."""
        return self.viewer.actor if self.viewer else None

    def open_cursor(self, text: str | None) -> list[Any] | None:
        """The keyset in a cursor that this method gave; 400 for any other."""
        if not text:
            return None
        return open_cursor(self.app.cursor_secret, text, scope=self.nsid)

    def seal_cursor(self, after: list[Any] | None) -> dict[str, str]:
        """`{"cursor": …}` to merge into the answer; empty at the end."""
        if after is None:
            return {}
        sealed = seal_cursor(self.app.cursor_secret, after, scope=self.nsid)
        return {"cursor": sealed}

    def find_actor(self, identifier: str) -> int | None:
        """The actor id of a DID or a handle that the index knows."""
        if not is_did(identifier):
            did = find_handles(self.conn, [identifier]).get(identifier.lower())
            if did is None:
                return None
            identifier = did
        return find_actors(self.conn, [identifier]).get(identifier)

    def reply_headers(self) -> dict[str, str]:
        """How fresh the viewer's own data is here, and whose labels were applied."""
        headers = {}
        if self.labelers.dids:
            headers[CONTENT_LABELERS] = self.labelers.header()
        if self.viewer_actor is not None:
            row = self.conn.execute(
                "SELECT rev FROM repo WHERE actor = %s", (self.viewer_actor,)
            ).fetchone()
            if row and row[0]:
                headers[REPO_REV] = row[0]
        return headers


def session_of(app: AppView, call: Call) -> AbstractContextManager[Session]:
    """The session of an XRPC request."""
    did = call.auth.did if call.auth else None
    lines = call.headers.getlist(ACCEPT_LABELERS)
    accepted = ", ".join(lines) if lines else None
    labelers = parse_labelers(accepted, app.default_labelers)
    return open_session(app, call.nsid, viewer=did, labelers=labelers)


@contextmanager
def open_session(
    app: AppView,
    nsid: str,
    *,
    viewer: str | None = None,
    labelers: Labelers = _NO_LABELERS,
    for_page: bool = False,
) -> Iterator[Session]:
    """A read-only transaction, so that one answer shows one moment.

    `nsid` binds the cursors given out; `viewer` is the DID of who asks.
    """
    with app.pool.connection() as conn:
        conn.execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
            f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"
        )
        asking = None
        if viewer is not None:
            asking = Viewer(viewer, find_actors(conn, [viewer]).get(viewer))
        yield Session(app, conn, nsid, asking, labelers, for_page)
