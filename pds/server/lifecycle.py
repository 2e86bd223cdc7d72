"""Accounts come, go quiet, come back and leave: rows and events, in one transaction.

The order of events is that of the reference server: a new account is #identity,
#account, an empty #commit and #sync; a handle change #identity; going quiet #account;
coming back #account, #identity, #sync; leaving #account.
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
    Account,
    NewAccount,
    erase_account,
    get_account,
    insert_account,
    set_handle,
    set_status,
)
from pds.sync.frames import (
    AccountMessage,
    CommitMessage,
    IdentityMessage,
    SyncMessage,
    car,
)
from pds.sync.sequencer import append
from protocol.data.cid import cid_for
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_NODE, EMPTY_ROOT
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, Tid
from storage.postgres.pool import Conn


def create_account(
    conn: Conn, new: NewAccount, key: PrivateKey, rev: Tid, now: datetime
) -> int:
    """Write the account with an empty repo, and tell of it; the account's id.

    Raises UniqueViolation when the handle or the email is taken.
    """
    account = insert_account(conn, new)
    signed = sign_commit(Did(new.did), EMPTY_ROOT, rev, key)
    commit = cid_for(signed)
    insert_blocks(conn, account, rev, {commit: signed, EMPTY_ROOT: EMPTY_NODE})
    insert_head(conn, account, RepoHead(rev, EMPTY_ROOT, commit))
    append(
        conn,
        account,
        [
            IdentityMessage(new.did, new.handle),
            AccountMessage(new.did, active=True),
            CommitMessage(
                did=new.did,
                rev=rev,
                since=None,
                commit=commit,
                prev_data=None,
                blocks=car(commit, [(commit, signed), (EMPTY_ROOT, EMPTY_NODE)]),
                ops=(),
            ),
            SyncMessage(new.did, rev, car(commit, [(commit, signed)])),
        ],
        now,
    )
    return account


def change_handle(conn: Conn, account: Account, handle: str, now: datetime) -> None:
    """Raises UniqueViolation when the handle is taken."""
    set_handle(conn, account.id, handle)
    append(conn, account.id, [IdentityMessage(account.did, handle)], now)


def deactivate(conn: Conn, account: int, now: datetime) -> None:
    """Stop serving the repo; its rows stay. No effect on an inactive account."""
    lock_head(conn, account)
    current = get_account(conn, account)
    if not current.active:
        return
    set_status(conn, account, DEACTIVATED)
    append(conn, account, [AccountMessage(current.did, False, DEACTIVATED)], now)


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
            AccountMessage(current.did, active=True),
            IdentityMessage(current.did, current.handle),
            SyncMessage(
                current.did, head.rev, car(head.commit, [(head.commit, signed)])
            ),
        ],
        now,
    )


def delete(conn: Conn, account: Account, now: datetime) -> None:
    """Erase everything but the fact, the account's past events included."""
    lock_head(conn, account.id)
    erase_account(conn, account.id)
    append(conn, account.id, [AccountMessage(account.did, False, DELETED)], now)
