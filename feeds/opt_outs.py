"""Accounts that asked to be left out of algorithmic recommendations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from protocol.data.cbor import decode
from protocol.errors import ProtocolError
from storage.collections import RKEY_SELF
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.record_allowance import HELD, Held, read_block

VISIBILITY_DECLARATION: Final = "app.bsky.actor.contentVisibilityDeclaration"
_FIELD: Final = "hideFromAlgorithmicRecommendations"
_MAX_BYTES: Final = 16_384


def asks_to_hide(declaration: Mapping[str, Any]) -> bool:
    """Return True if a declaration asks for it; one of another shape does."""
    return declaration.get(_FIELD) is not False


def find_opted_out(conn: Conn, actors: Collection[int]) -> set[int]:
    """Return the accounts that asked to be left out.

    A declaration that cannot be read, or is too large, counts as the request.
    """
    if not actors:
        return set()
    rows = conn.execute(
        f"""
        SELECT r.actor, r.collection, r.rkey, {HELD}
        FROM unnest(%s::int4[]) AS x (a)
        JOIN record r ON r.actor = x.a AND r.rkey = %s AND r.collection = (
            SELECT id FROM collection WHERE nsid = %s)
        """,
        ([*actors], RKEY_SELF, VISIBILITY_DECLARATION),
    ).fetchall()
    held = [Held(Address(*row[:3]), *row[3:]) for row in rows]
    return {row.address.actor for row in held if _asks(conn, row)}


def _asks(conn: Conn, row: Held) -> bool:
    if row.length > _MAX_BYTES:
        return True
    try:
        value = decode(read_block(conn, row))
    except (ProtocolError, ValueError):
        return True
    return not isinstance(value, dict) or asks_to_hide(value)
