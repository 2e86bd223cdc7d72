"""Invite codes: made by the operator, for themselves or for accounts to give away."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pds.exceptions import InvalidInviteCodeError
from pds.server.accounts import TAKENDOWN, utc_text
from storage.postgres.pool import Conn

ADMIN: Final = "admin"
"""The owner of codes that no account gives away."""

_NOT_AVAILABLE: Final = "Provided invite code not available"
_COLUMNS: Final = "code, for_account, available, disabled, created_at"


def make_code(host: str) -> str:
    """Return a new code: the host name with dashes, and 50 random bits."""
    text = base64.b32encode(secrets.token_bytes(7)).decode().lower()
    name = host.partition(":")[0].replace(".", "-")
    return f"{name}-{text[:5]}-{text[5:10]}"


def insert_codes(
    conn: Conn, codes: Sequence[tuple[str, str]], available: int, now: datetime
) -> None:
    """Insert (code, owner) pairs, each with so many uses."""
    conn.execute(
        "INSERT INTO invite_code (code, for_account, available, created_at)"
        " SELECT code, owner, %s, %s FROM unnest(%s::text[], %s::text[])"
        " AS new (code, owner)",
        [available, now, [code for code, _ in codes], [owner for _, owner in codes]],
    )


def check_code(conn: Conn, code: str) -> None:
    """Raise InvalidInviteCodeError unless the code can be used now."""
    _require_available(conn, code, lock=False)


def use_code(conn: Conn, code: str, did: str, now: datetime) -> None:
    """Use the code for an account. Raises InvalidInviteCodeError."""
    _require_available(conn, code, lock=True)
    conn.execute(
        "INSERT INTO invite_use (code, used_by, used_at) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        [code, did, now],
    )


def _require_available(conn: Conn, code: str, *, lock: bool) -> None:
    if "\0" in code:
        raise InvalidInviteCodeError(_NOT_AVAILABLE)
    # The lock makes uses of one code queue.
    row = conn.execute(
        "SELECT available, disabled, for_account FROM invite_code WHERE code = %s"
        + (" FOR UPDATE" if lock else ""),
        [code],
    ).fetchone()
    if row is None or row[1]:
        raise InvalidInviteCodeError(_NOT_AVAILABLE)
    used = conn.execute(
        "SELECT (SELECT count(*) FROM invite_use WHERE code = %s), EXISTS"
        " (SELECT FROM account WHERE did = %s AND status = %s)",
        [code, row[2], TAKENDOWN],
    ).fetchone()
    assert used is not None
    if used[0] >= row[0] or used[1]:
        raise InvalidInviteCodeError(_NOT_AVAILABLE)


def codes_of(conn: Conn, owners: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the codes of these owners with their uses, newest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM invite_code WHERE for_account = ANY(%s)"
        " ORDER BY created_at DESC, code",
        [list(owners)],
    ).fetchall()
    found: dict[str, list[dict[str, Any]]] = {}
    for code in shown_codes(conn, rows):
        found.setdefault(code["forAccount"], []).append(code)
    return found


def shown_codes(conn: Conn, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows of `_COLUMNS` as the lexicons' inviteCode, with their uses."""
    uses: dict[str, list[dict[str, str]]] = {}
    for code, did, used_at in conn.execute(
        "SELECT code, used_by, used_at FROM invite_use WHERE code = ANY(%s)"
        " ORDER BY used_at DESC, used_by",
        [[row[0] for row in rows]],
    ):
        use = {"usedBy": did, "usedAt": utc_text(used_at)}
        uses.setdefault(code, []).append(use)
    return [
        {
            "code": code,
            "available": available,
            "disabled": disabled,
            "forAccount": owner,
            "createdBy": ADMIN,
            "createdAt": utc_text(created),
            "uses": uses.get(code, []),
        }
        for code, owner, available, disabled, created in rows
    ]
