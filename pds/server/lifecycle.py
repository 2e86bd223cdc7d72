"""Creation, handle change, deactivation and deletion of accounts: rows and events.

Each is one transaction. The events are those of the reference server, in its order:
creation #identity, #account, an empty #commit, #sync; handle or key change #identity;
deactivation #account; activation #account, #identity, #sync; deletion #account.
"""

from __future__ import annotations

from datetime import datetime

from pds.exceptions import InvalidRequestError
from pds.repo.block_rows import find_block, insert_blocks
from pds.repo.repo_heads import RepoHead, insert_head, lock_head
from pds.server.accounts import (
    ACTIVE,
    DEACTIVATED,
    DELETED,
    TAKENDOWN,
    Account,
    NewAccount,
    erase_account,
    get_account,
    insert_account,
    note_deactivation,
    set_handle,
    set_status,
)
from pds.sync.frames import (
    account_message,
    car,
    commit_message,
    identity_message,
    sync_message,
)
from pds.sync.sequencer import append
from protocol.data.cid import cid_for
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_NODE, EMPTY_ROOT
from protocol.repo.commit import sign_commit
from protocol.syntax import INVALID_HANDLE, Did, Tid
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn


def create_account(
    conn: Conn, new: NewAccount, key: PrivateKey, rev: Tid, now: datetime
) -> int:
    """Insert the account with an empty repo; return its id.

    An active account has events. One of another server starts deactivated, without
    any. Raises UniqueViolation when the handle or the email is taken.
    """
    account = insert_account(conn, new)
    signed = sign_commit(Did(new.did), EMPTY_ROOT, rev, key)
    commit = cid_for(signed)
    insert_blocks(conn, account, rev, {commit: signed, EMPTY_ROOT: EMPTY_NODE})
    insert_head(conn, account, RepoHead(rev, EMPTY_ROOT, commit))
    if new.status != ACTIVE:
        return account
    crashpoint(Crashpoint.PDS_ACCOUNT_STORED)
    append(
        conn,
        account,
        [
            identity_message(new.did, new.handle),
            account_message(new.did, ACTIVE),
            commit_message(
                new.did,
                rev,
                commit,
                car(commit, [(commit, signed), (EMPTY_ROOT, EMPTY_NODE)]),
            ),
            sync_message(new.did, rev, car(commit, [(commit, signed)])),
        ],
        now,
    )
    crashpoint(Crashpoint.PDS_ACCOUNT_APPENDED)
    return account


def change_handle(conn: Conn, account: Account, handle: str, now: datetime) -> None:
    """Set a handle. Raises UniqueViolation when it is taken."""
    set_handle(conn, account.id, handle)
    append(conn, account.id, [identity_message(account.did, handle)], now)


def announce_identity(conn: Conn, account: Account, now: datetime) -> None:
    """Tell indexers to resolve the account anew."""
    handle = account.handle or INVALID_HANDLE
    append(conn, account.id, [identity_message(account.did, handle)], now)


def deactivate(conn: Conn, account: int, now: datetime) -> None:
    """Stop serving the repo; its rows stay. No effect on an inactive account."""
    lock_head(conn, account)
    current = get_account(conn, account)
    if current.status == TAKENDOWN:
        note_deactivation(conn, account)
    if not current.active:
        return
    set_status(conn, account, DEACTIVATED)
    append(conn, account, [account_message(current.did, DEACTIVATED)], now)


def activate(conn: Conn, account: int, now: datetime) -> None:
    """Serve the repo again. No effect on an active account."""
    head = lock_head(conn, account)
    current = get_account(conn, account)
    if current.active:
        return
    if current.status != DEACTIVATED or current.handle is None:
        raise InvalidRequestError("only a deactivated account can be activated")
    set_status(conn, account, ACTIVE)
    signed = find_block(conn, account, head.commit)
    assert signed is not None
    append(
        conn,
        account,
        [
            account_message(current.did, ACTIVE),
            identity_message(current.did, current.handle),
            sync_message(
                current.did, head.rev, car(head.commit, [(head.commit, signed)])
            ),
        ],
        now,
    )


def delete(conn: Conn, account: Account, now: datetime) -> None:
    """Erase the account, including its past events."""
    lock_head(conn, account.id)
    erase_account(conn, account.id)
    crashpoint(Crashpoint.PDS_ACCOUNT_ERASED)
    append(conn, account.id, [account_message(account.did, DELETED)], now)
