"""Accounts as the operator sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pds.server.accounts import DELETED, utc_text
from pds.server.invites import codes_of, inviting_codes
from protocol.syntax import INVALID_HANDLE
from storage.postgres.pool import Conn

_COLUMNS: Final = (
    "id, did, handle, email, created_at, email_confirmed_at, deactivated_at,"
    " invites_disabled"
)


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """One account with the dates that only the operator sees."""

    id: int
    did: str
    handle: str | None
    email: str | None
    created_at: datetime
    email_confirmed_at: datetime | None
    deactivated_at: datetime | None
    invites_disabled: bool


def find_infos(conn: Conn, dids: Sequence[str]) -> list[AccountInfo]:
    """Return those of the accounts that are here, in the order of `dids`."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM account WHERE did = ANY(%s) AND status <> %s",
        [list(dids), DELETED],
    ).fetchall()
    found = {info.did: info for info in (AccountInfo(*row) for row in rows)}
    return [found[did] for did in dict.fromkeys(dids) if did in found]


def page_accounts(conn: Conn, after: int, limit: int) -> list[AccountInfo]:
    """Return accounts in the order of their creation, after the id `after`."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM account WHERE id > %s AND status <> %s"
        " ORDER BY id LIMIT %s",
        [after, DELETED, limit],
    ).fetchall()
    return [AccountInfo(*row) for row in rows]


def search_by_email(
    conn: Conn, start: str, after: str, limit: int
) -> list[AccountInfo]:
    """Return accounts whose address begins with `start`, by address after `after`."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM account WHERE email ^@ %s AND email >= %s"
        " AND email > %s ORDER BY email LIMIT %s",
        [start, start, after, limit],
    ).fetchall()
    return [AccountInfo(*row) for row in rows]


def show_infos(conn: Conn, infos: Sequence[AccountInfo]) -> list[dict[str, Any]]:
    """Return accounts as the lexicons' accountView, with their invite codes."""
    dids = [info.did for info in infos]
    codes, inviting = codes_of(conn, dids), inviting_codes(conn, dids)
    return [
        _show(info)
        | {"invites": codes.get(info.did, [])}
        | ({"invitedBy": inviting[info.did]} if info.did in inviting else {})
        for info in infos
    ]


def _show(info: AccountInfo) -> dict[str, Any]:
    view: dict[str, Any] = {
        "did": info.did,
        "handle": info.handle or INVALID_HANDLE,
        "indexedAt": utc_text(info.created_at),
        "invitesDisabled": info.invites_disabled,
    }
    if info.email is not None:
        view["email"] = info.email
    if info.email_confirmed_at is not None:
        view["emailConfirmedAt"] = utc_text(info.email_confirmed_at)
    if info.deactivated_at is not None:
        view["deactivatedAt"] = utc_text(info.deactivated_at)
    return view
