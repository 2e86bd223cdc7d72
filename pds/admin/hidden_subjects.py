"""Takedowns by the operator: accounts, records and blobs, each with its reference."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pds.server.accounts import TAKENDOWN, Account, get_account, resting_status
from pds.server.accounts import set_status as store_status
from pds.server.sessions import revoke_all
from pds.sync.frames import account_message
from pds.sync.sequencer import append
from storage.postgres.pool import Conn

ACCOUNT: Final = ""
"""The subject of an account as a whole. Others are record paths and CIDs of blobs."""


def find_takedown(conn: Conn, account: int, subject: str) -> str | None:
    """Return the reference of a takedown; None for a subject that is not hidden."""
    row = conn.execute(
        "SELECT ref FROM takedown WHERE account = %s AND subject = %s",
        [account, subject],
    ).fetchone()
    return None if row is None else str(row[0])


def take_down(conn: Conn, account: int, subject: str, ref: str, now: datetime) -> None:
    """Hide a subject. An account loses its sessions, and has an event."""
    conn.execute(
        "INSERT INTO takedown (account, subject, ref, created_at)"
        " VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (account, subject) DO UPDATE SET ref = excluded.ref",
        [account, subject, ref, now],
    )
    if subject == ACCOUNT:
        revoke_all(conn, account, now)
        _change_status(conn, get_account(conn, account), TAKENDOWN, now)


def restore(conn: Conn, account: int, subject: str, now: datetime) -> None:
    """Show a subject again; a deactivated account stays deactivated."""
    conn.execute(
        "DELETE FROM takedown WHERE account = %s AND subject = %s", [account, subject]
    )
    current = get_account(conn, account)
    if subject == ACCOUNT and current.status == TAKENDOWN:
        revoke_all(conn, account, now)
        _change_status(conn, current, resting_status(conn, account), now)


def _change_status(conn: Conn, account: Account, status: str, now: datetime) -> None:
    if account.status != status:
        store_status(conn, account.id, status)
        append(conn, account.id, [account_message(account.did, status)], now)
