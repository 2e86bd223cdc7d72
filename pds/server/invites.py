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
    """Insert (code, owner) pairs, each with so many uses.

    Those of an account that may not get codes are disabled, as on the reference PDS.
    """
    conn.execute(
        "INSERT INTO invite_code (code, for_account, available, disabled, created_at)"
        " SELECT code, owner, %s, coalesce(a.invites_disabled, false), %s"
        " FROM unnest(%s::text[], %s::text[]) AS new (code, owner)"
        " LEFT JOIN account a ON a.did = owner",
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
    conn.execute("UPDATE invite_code SET uses = uses + 1 WHERE code = %s", [code])


def _require_available(conn: Conn, code: str, *, lock: bool) -> None:
    # The lock makes uses of one code queue. Postgres text holds no NUL.
    found = None
    if "\0" not in code:
        found = conn.execute(
            "SELECT EXISTS (SELECT FROM account"
            " WHERE did = i.for_account AND status = %s)"
            " FROM invite_code i WHERE code = %s AND NOT disabled AND uses < available"
            + (" FOR UPDATE" if lock else ""),
            [TAKENDOWN, code],
        ).fetchone()
    if found is None or found[0]:
        raise InvalidInviteCodeError(_NOT_AVAILABLE)


def disable_codes(conn: Conn, codes: Sequence[str], owners: Sequence[str]) -> None:
    """Disable these codes, and all codes of these owners."""
    conn.execute(
        "UPDATE invite_code SET disabled = true"
        " WHERE code = ANY(%s) OR for_account = ANY(%s)",
        [list(codes), list(owners)],
    )


def page_codes(
    conn: Conn, *, by_use: bool, after: Any, limit: int
) -> tuple[list[dict[str, Any]], Any]:
    """Return a page of all codes, newest or most used first, and its last place."""
    key = "uses" if by_use else "created_at"
    where, place = "", []
    if after is not None:
        where, place = f"WHERE ({key}, code) < (%s, %s)", list(after)
    rows = conn.execute(
        f"SELECT {_COLUMNS}, {key}::text AS place FROM invite_code {where}"
        f" ORDER BY {key} DESC, code DESC LIMIT %s",
        [*place, limit],
    ).fetchall()
    last = [rows[-1][-1], rows[-1][0]] if rows else None
    return shown_codes(conn, [row[:-1] for row in rows]), last


def inviting_codes(conn: Conn, dids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the code that each of these accounts used, by account."""
    used = conn.execute(
        "SELECT used_by, code FROM invite_use WHERE used_by = ANY(%s)", [list(dids)]
    ).fetchall()
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM invite_code WHERE code = ANY(%s)",
        [[code for _, code in used]],
    ).fetchall()
    codes = {code["code"]: code for code in shown_codes(conn, rows)}
    return {did: codes[code] for did, code in used}


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
