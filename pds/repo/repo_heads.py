"""The head of each repo, and the lock that makes its history linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pds.exceptions import RepoNotFoundError
from pds.server.accounts import Cursor
from protocol.syntax import Tid
from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class RepoHead:
    """The head of a repo: its rev, tree root and commit."""

    rev: Tid
    data: bytes
    commit: bytes


_HEAD: Final = "SELECT rev, data, commit FROM repo WHERE account = %s"
LOCK_HEAD: Final = f"{_HEAD} FOR NO KEY UPDATE"


def get_head(conn: Conn, account: int) -> RepoHead:
    """Return the head. Raises RepoNotFoundError for a deleted account."""
    return read_head(conn.execute(_HEAD, [account]))


def lock_head(conn: Conn, account: int) -> RepoHead:
    """Return the head, locked until this transaction ends."""
    return read_head(conn.execute(LOCK_HEAD, [account]))


def read_head(cursor: Cursor) -> RepoHead:
    """Return the head from a query's only row. Raises RepoNotFoundError."""
    row = cursor.fetchone()
    if row is None:
        raise RepoNotFoundError("Could not find repo")
    return RepoHead(*row)


def insert_head(conn: Conn, account: int, head: RepoHead) -> None:
    conn.execute(
        "INSERT INTO repo (account, rev, data, commit) VALUES (%s, %s, %s, %s)",
        [account, head.rev, head.data, head.commit],
    )


def move_head(conn: Conn, account: int, head: RepoHead) -> None:
    conn.execute(
        "UPDATE repo SET rev = %s, data = %s, commit = %s WHERE account = %s",
        [head.rev, head.data, head.commit, account],
    )
