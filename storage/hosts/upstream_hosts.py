"""Hosts as the sync methods of relays list them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from storage.hosts.host_rows import (
    HOST_BANNED,
    HOST_NEW,
    HOST_OFFLINE,
    HOST_POLLING,
    HOST_RECHECK,
    HOST_RELAYED,
    HOST_STREAMING,
    HOST_THROTTLED,
)
from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn

STATUSES: Final = {
    HOST_NEW: "idle",
    HOST_STREAMING: "active",
    HOST_POLLING: "idle",
    HOST_RELAYED: "idle",
    HOST_THROTTLED: "throttled",
    HOST_OFFLINE: "offline",
    HOST_RECHECK: "active",
    HOST_BANNED: "banned",
}
"""State of a host -> its status in com.atproto.sync.defs#hostStatus."""


@dataclass(frozen=True, slots=True)
class UpstreamHost:
    """A host; `seq` is the sequence up to which its events were applied."""

    id: int
    hostname: str
    state: str
    accounts: int
    seq: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the lexicon's form."""
        host: dict[str, Any] = {
            "hostname": self.hostname,
            "accountCount": self.accounts,
            "status": STATUSES[self.state],
        }
        return host if self.seq is None else host | {"seq": self.seq}


def list_upstream(conn: Conn, *, limit: int, after: int) -> list[UpstreamHost]:
    """Return the next hosts by id: the first seen first.

    Without hosts that only a relay forwards, and banned ones.
    """
    return fetch_all(
        conn,
        UpstreamHost,
        f"{_SELECT} WHERE id > %s AND state NOT IN ('{HOST_RELAYED}', '{HOST_BANNED}')"
        " ORDER BY id LIMIT %s",
        (after, limit),
    )


def find_upstream(conn: Conn, hostname: str) -> UpstreamHost | None:
    """Return a host by its name."""
    where = f"{_SELECT} WHERE hostname = %s"
    found = fetch_all(conn, UpstreamHost, where, (hostname,))
    return found[0] if found else None


_SELECT: Final = """
    SELECT id, hostname, state, accounts,
        (SELECT min(seq) FROM host_cursor WHERE host_cursor.host = host.id) AS seq
    FROM host
"""
