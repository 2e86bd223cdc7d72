"""Account rows of this server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from pds.exceptions import (
    AccountDeactivatedError,
    AccountTakedownError,
    InvalidRequestError,
    RepoDeactivatedError,
    RepoNotFoundError,
    RepoSuspendedError,
    RepoTakendownError,
)
from storage.postgres.pool import Conn

Cursor = psycopg.Cursor[Any]

ACTIVE = "active"
DEACTIVATED = "deactivated"
DELETED = "deleted"
SUSPENDED = "suspended"
TAKENDOWN = "takendown"

SIGNING_ROLE = "signing"
ROTATION_ROLE = "rotation"


@dataclass(frozen=True, slots=True)
class Account:
    """One account; `handle` is None only for a deleted one."""

    id: int
    did: str
    handle: str | None
    email: str | None
    status: str
    signing_did_key: str
    email_confirmed: bool

    @property
    def active(self) -> bool:
        return self.status == ACTIVE


@dataclass(frozen=True, slots=True)
class NewAccount:
    """A row to insert; keys are sealed, the password hashed."""

    did: str
    handle: str
    email: str | None
    password: str
    signing_key: bytes
    rotation_key: bytes
    signing_did_key: str
    status: str = ACTIVE
    recovery_key: str | None = None


ACCOUNT_COLUMNS: Final = (
    "account.id, did, handle, email, status, signing_did_key,"
    " email_confirmed_at IS NOT NULL"
)
"""The columns of an Account, in a query on the table `account`."""

ACCOUNT_BY_ID: Final = f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE id = %s"


def find_account(conn: Conn, identifier: str) -> Account | None:
    """Return the account of a DID or a handle (lower case)."""
    column = "did" if identifier.startswith("did:") else "handle"
    row = conn.execute(
        f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE {column} = %s", [identifier]
    ).fetchone()
    return None if row is None else Account(*row)


def find_by_email(conn: Conn, email: str) -> Account | None:
    """Return the account with an email address (lower case)."""
    row = conn.execute(
        f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE email = %s", [email]
    ).fetchone()
    return None if row is None else Account(*row)


def get_account(conn: Conn, account: int) -> Account:
    """Return the account of an id that exists."""
    return read_account(conn.execute(ACCOUNT_BY_ID, [account]))


def read_account(cursor: Cursor) -> Account:
    """Return the only row of ACCOUNT_BY_ID."""
    row = cursor.fetchone()
    assert row is not None
    return Account(*row)


def find_password(conn: Conn, identifier: str) -> tuple[int, str] | None:
    """Return account id and stored password of a DID, handle or email address."""
    if identifier.startswith("did:"):
        column = "did"
    elif "@" in identifier:
        column = "email"
    else:
        column = "handle"
    row = conn.execute(
        f"SELECT id, password FROM account WHERE {column} = %s AND status <> %s",
        [identifier, DELETED],
    ).fetchone()
    return None if row is None else (row[0], row[1])


def insert_account(conn: Conn, new: NewAccount) -> int:
    """Insert the row, or reuse that of a deleted account; return its id.

    Raises UniqueViolation for a taken handle or email, InvalidRequestError for an
    account that is here.
    """
    row = conn.execute(
        "INSERT INTO account (did, handle, email, password, signing_key,"
        " rotation_key, signing_did_key, status, recovery_key, deactivated_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s,"
        f" CASE %s WHEN '{DEACTIVATED}' THEN now() END)"
        " ON CONFLICT (did) DO UPDATE SET handle = excluded.handle,"
        " email = excluded.email, password = excluded.password,"
        " signing_key = excluded.signing_key, rotation_key = excluded.rotation_key,"
        " signing_did_key = excluded.signing_did_key, status = excluded.status,"
        " recovery_key = excluded.recovery_key, email_confirmed_at = NULL,"
        " deactivated_at = excluded.deactivated_at, invites_disabled = false,"
        " created_at = now()"
        f" WHERE account.status = '{DELETED}' RETURNING id",
        [
            new.did,
            new.handle,
            new.email,
            new.password,
            new.signing_key,
            new.rotation_key,
            new.signing_did_key,
            new.status,
            new.recovery_key,
            new.status,
        ],
    ).fetchone()
    if row is None:
        raise InvalidRequestError(f"Account already exists: {new.did}")
    return int(row[0])


def find_recovery_key(conn: Conn, account: int) -> str | None:
    """Return the did:key that the owner named at the creation of the account."""
    row = conn.execute(
        "SELECT recovery_key FROM account WHERE id = %s", [account]
    ).fetchone()
    return None if row is None else row[0]


def sealed_key(conn: Conn, account: int, role: str) -> bytes:
    """Return the encrypted `signing` or `rotation` key of an account."""
    row = conn.execute(
        f"SELECT {role}_key FROM account WHERE id = %s", [account]
    ).fetchone()
    assert row is not None
    return bytes(row[0])


def set_handle(conn: Conn, account: int, handle: str) -> None:
    conn.execute("UPDATE account SET handle = %s WHERE id = %s", [handle, account])


def set_status(conn: Conn, account: int, status: str) -> None:
    """Set a status; a takedown leaves the account deactivated if it is."""
    conn.execute(
        "UPDATE account SET status = %s, deactivated_at = CASE %s"
        f" WHEN '{ACTIVE}' THEN NULL"
        f" WHEN '{DEACTIVATED}' THEN coalesce(deactivated_at, now())"
        " ELSE deactivated_at END WHERE id = %s",
        [status, status, account],
    )


def note_deactivation(conn: Conn, account: int) -> None:
    """Note that an account stays deactivated after its takedown."""
    conn.execute(
        "UPDATE account SET deactivated_at = coalesce(deactivated_at, now())"
        " WHERE id = %s",
        [account],
    )


def is_deactivated(conn: Conn, account: int) -> bool:
    """Return True for a deactivated account, whether or not it is taken down."""
    row = conn.execute(
        "SELECT deactivated_at IS NOT NULL FROM account WHERE id = %s", [account]
    ).fetchone()
    assert row is not None
    return bool(row[0])


def resting_status(conn: Conn, account: int) -> str:
    """Return the status of an account without a takedown."""
    return DEACTIVATED if is_deactivated(conn, account) else ACTIVE


def set_invites_disabled(conn: Conn, did: str, disabled: bool) -> None:
    """Let an account get new invite codes, or not."""
    conn.execute(
        "UPDATE account SET invites_disabled = %s WHERE did = %s", [disabled, did]
    )


def set_email(conn: Conn, account: int, email: str) -> None:
    """Set an address, which is not confirmed. UniqueViolation for a taken one."""
    conn.execute(
        "UPDATE account SET email = %s, email_confirmed_at = NULL WHERE id = %s",
        [email, account],
    )


def confirm_email(conn: Conn, account: Account, now: datetime) -> None:
    """Note that the owner reads mail to the address that the account has."""
    conn.execute(
        "UPDATE account SET email_confirmed_at = %s WHERE id = %s AND email = %s",
        [now, account.id, account.email],
    )


def set_password(conn: Conn, account: int, hashed: str) -> None:
    conn.execute("UPDATE account SET password = %s WHERE id = %s", [hashed, account])


def erase_account(conn: Conn, account: int) -> None:
    """Delete all rows of the account except its own, which becomes "deleted"."""
    # Imported here, since a server needs SQLAlchemy for nothing else.
    from pds.tables import metadata

    for table in reversed(metadata.sorted_tables):
        if "account" in table.c:
            conn.execute(f"DELETE FROM {table.name} WHERE account = %s", [account])
    conn.execute(
        "UPDATE account SET status = %s, handle = NULL, email = NULL, password = '',"
        " signing_key = '', rotation_key = '', recovery_key = NULL WHERE id = %s",
        [DELETED, account],
    )


def require_public(conn: Conn, did: str) -> Account:
    """Return the account of a public repo. Raises the Repo*Error of its status."""
    account = find_account(conn, did)
    if account is None or account.status == DELETED:
        raise RepoNotFoundError(f"Could not find repo for DID: {did}")
    if account.status == TAKENDOWN:
        raise RepoTakendownError(f"Repo has been taken down: {did}")
    if account.status == SUSPENDED:
        raise RepoSuspendedError(f"Repo has been suspended: {did}")
    if account.status == DEACTIVATED:
        raise RepoDeactivatedError(f"Repo has been deactivated: {did}")
    return account


def require_present(account: Account) -> None:
    """Raise AccountTakedownError unless the account is active or deactivated."""
    if account.status not in (ACTIVE, DEACTIVATED):
        raise AccountTakedownError("Account has been taken down")


def require_writable(account: Account) -> None:
    """Raise an error unless the account may write."""
    if account.status == DEACTIVATED:
        raise AccountDeactivatedError("Account is deactivated")
    require_present(account)


def handle_owner(conn: Conn, handle: str) -> str | None:
    """Return the DID of the active account that has the handle."""
    row = conn.execute(
        "SELECT did FROM account WHERE handle = %s AND status = %s", [handle, ACTIVE]
    ).fetchone()
    return None if row is None else str(row[0])


@dataclass(frozen=True, slots=True)
class HostedRepo:
    """One line of `listRepos`."""

    id: int
    did: str
    status: str
    rev: str
    commit: bytes


def list_repos(conn: Conn, after: int, limit: int) -> list[HostedRepo]:
    """Return repos in the order of their creation, after the account id `after`."""
    with conn.cursor(row_factory=class_row(HostedRepo)) as cursor:
        return cursor.execute(
            "SELECT a.id, a.did, a.status, r.rev, r.commit FROM account a"
            " JOIN repo r ON r.account = a.id WHERE a.id > %s ORDER BY a.id LIMIT %s",
            [after, limit],
        ).fetchall()


def utc_text(moment: datetime) -> str:
    """Return a time in the datetime form of event frames, in milliseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
