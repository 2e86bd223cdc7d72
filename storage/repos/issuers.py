"""Accounts as issuers of service tokens."""

from __future__ import annotations

from typing import Final

from storage.postgres.pool import Conn
from storage.states import STATUS_DELETED

_REFUSED: Final = ("deactivated", "takendown", "suspended", STATUS_DELETED)


def is_issuer_active(conn: Conn, did: str) -> bool:
    """Return False for an account that is taken down or deactivated.

    An account that the index does not know is active.
    """
    row = conn.execute(
        "SELECT takedown IS NULL AND upstream_status <> ALL(%s) FROM actor"
        " WHERE did = %s",
        (list(_REFUSED), did),
    ).fetchone()
    return row is None or bool(row[0])
