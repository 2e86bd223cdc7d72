"""Writes to a repo: a batch of record changes becomes one commit and one event.

A write is one transaction under the lock of the repo's head. Its cost depends on the
batch and the height of the tree, not on the size of the repo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from pds.blobs import BlobRef, release_blobs, use_blobs
from pds.exceptions import InvalidRequestError, InvalidSwapError
from pds.repo.block_rows import BlockReader, NodeCache, delete_blocks, insert_blocks
from pds.repo.repo_heads import LOCK_HEAD, RepoHead, move_head, read_head
from pds.server.accounts import ACCOUNT_BY_ID, Account, read_account, require_writable
from pds.sync.frames import CommitOp, car, commit_message
from pds.sync.sequencer import append
from protocol.data.cid import cid_for, cid_to_text
from protocol.identity.keys import PrivateKey
from protocol.limits import MAX_COMMIT_BLOCKS_BYTES, MAX_COMMIT_OPS
from protocol.mst import Tree, parse_node
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, TidClock
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.postgres.query_pipeline import send_all

CREATE: Final = "create"
UPDATE: Final = "update"
DELETE: Final = "delete"


class Intent(StrEnum):
    """The kind of a write, with its condition on the current record."""

    CREATE = "create"  # there must be none
    UPDATE = "update"  # there must be one
    DELETE = "delete"  # there must be one
    PUT = "put"  # either
    ENSURE_ABSENT = "ensure absent"  # either


@dataclass(frozen=True, slots=True)
class Swap:
    """The required current record; None for no record."""

    cid: bytes | None


@dataclass(frozen=True, slots=True)
class Write:
    """One change; `value` has the exact bytes of the record, None for a removal."""

    intent: Intent
    path: str
    value: bytes | None = None
    cid: bytes | None = None
    blobs: tuple[BlobRef, ...] = ()
    swap: Swap | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The head after a batch; `changed` if the batch moved it."""

    head: RepoHead
    changed: bool


class RepoWriter:
    """The writer of all repos of one server."""

    def __init__(
        self,
        nodes: NodeCache,
        clock: TidClock,
        signing_key: Callable[[Conn, Account], PrivateKey],
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._signing_key = signing_key

    def apply(
        self,
        conn: Conn,
        account_id: int,
        writes: Sequence[Write],
        *,
        swap_commit: bytes | None,
        now: datetime,
    ) -> Written:
        """Apply the batch as one commit in one transaction, which ends on return.

        Raises InvalidSwapError if the repo is not where the caller expects it, and
        AccountDeactivatedError or AccountTakedownError for an inactive account. Raises
        InvalidRequestError for a batch that contradicts the repo or itself, or is too
        large (specs/sync).
        """
        _check_batch(writes)
        head, account, current = _lock(conn, account_id, writes)
        require_writable(account)
        crashpoint(Crashpoint.PDS_WRITE_LOCKED)
        if swap_commit is not None and swap_commit != head.commit:
            raise InvalidSwapError(f"Commit was at {cid_to_text(head.commit)}")
        ops = _settle(writes, current)
        if not ops:
            return Written(head, changed=False)

        reader = BlockReader(conn, account_id, self._nodes)
        # A tree does not read the empty root; read it here, so that it is deleted.
        reader.get_node(head.data)
        tree = Tree(reader.get_node, head.data)
        for op in ops:
            if op.cid is None:
                tree.delete(op.path.encode("ascii"))
            else:
                tree.put(op.path.encode("ascii"), op.cid)
        data = tree.root()
        rev = self._clock.next(after=head.rev)
        signed = sign_commit(
            Did(account.did), data, rev, self._signing_key(conn, account)
        )
        commit = cid_for(signed)

        changed = {op.path for op in ops}
        kept = [write for write in writes if write.path in changed]
        records = {
            write.cid: write.value
            for write in kept
            if write.cid is not None and write.value is not None
        }
        fresh = tree.new_blocks()
        proof = tree.proof_blocks(op.path.encode("ascii") for op in ops)
        blocks = car(commit, ({commit: signed} | fresh | proof | records).items())
        if len(blocks) > MAX_COMMIT_BLOCKS_BYTES:
            raise InvalidRequestError(
                f"the commit would be larger than {MAX_COMMIT_BLOCKS_BYTES} bytes"
            )
        moved = RepoHead(rev, data, commit)
        gone = _unreachable(data, reader.nodes, fresh)
        message = commit_message(
            account.did,
            rev,
            commit,
            blocks,
            since=head.rev,
            prev_data=head.data,
            ops=ops,
        )
        crashpoint(Crashpoint.PDS_WRITE_SIGNED)
        with conn.pipeline():
            insert_blocks(conn, account_id, rev, {commit: signed} | fresh | records)
            delete_blocks(conn, account_id, [head.commit, *gone])
            _write_records(conn, account_id, ops)
            move_head(conn, account_id, moved)
            _write_blob_uses(conn, account_id, kept, ops, rev, now)
            send_all(conn)
            crashpoint(Crashpoint.PDS_WRITE_STORED)
            append(conn, account_id, [message], now)
            send_all(conn)
            crashpoint(Crashpoint.PDS_WRITE_APPENDED)
            conn.commit()
        crashpoint(Crashpoint.PDS_WRITE_COMMITTED)
        for cid, node in fresh.items():
            self._nodes.put(cid, node)
        return Written(moved, changed=True)


def _check_batch(writes: Sequence[Write]) -> None:
    if len(writes) > MAX_COMMIT_OPS:
        raise InvalidRequestError(f"Too many writes. Max: {MAX_COMMIT_OPS}")
    if len({write.path for write in writes}) < len(writes):
        raise InvalidRequestError("one record is written twice in a batch")


def _lock(
    conn: Conn, account: int, writes: Sequence[Write]
) -> tuple[RepoHead, Account, dict[str, bytes]]:
    """Lock the head; return it with the account and the current records of the
    batch."""
    # One round trip; each statement sees everything committed before it starts.
    with conn.pipeline():
        locked = conn.execute(LOCK_HEAD, [account])
        owner = conn.execute(ACCOUNT_BY_ID, [account])
        current = conn.execute(
            "SELECT path, cid FROM record WHERE account = %s AND path = ANY(%s)",
            [account, [write.path for write in writes]],
        )
        return read_head(locked), read_account(owner), dict(current.fetchall())


def _settle(writes: Sequence[Write], current: dict[str, bytes]) -> list[CommitOp]:
    """Return the changes that the writes make to the current records."""
    ops = []
    for write in writes:
        there = current.get(write.path)
        if write.swap is not None and write.swap.cid != there:
            shown = "null" if there is None else cid_to_text(there)
            raise InvalidSwapError(f"Record was at {shown}")
        if write.intent is Intent.CREATE and there is not None:
            raise InvalidRequestError(f"Record already exists: {write.path}")
        if write.intent in (Intent.UPDATE, Intent.DELETE) and there is None:
            raise InvalidRequestError(f"Could not find record: {write.path}")
        # An unchanged record does not change the tree.
        if write.cid == there:
            continue
        action = CREATE if there is None else UPDATE
        if write.cid is None:
            action = DELETE
        ops.append(CommitOp(action, write.path, write.cid, there))
    return ops


def _unreachable(
    root: bytes, read: dict[bytes, bytes], fresh: dict[bytes, bytes]
) -> list[bytes]:
    """Return the read nodes that the tree under `root` no longer has.

    An unread node was not changed, so only nodes read or made are walked.
    """
    known = read | fresh
    reached: set[bytes] = set()
    stack = [root]
    while stack:
        cid = stack.pop()
        if cid in known and cid not in reached:
            reached.add(cid)
            _, _, links = parse_node(known[cid])
            stack.extend(link for link in links if link is not None)
    return [cid for cid in read if cid not in reached]


def _write_records(conn: Conn, account: int, ops: Iterable[CommitOp]) -> None:
    present = [(op.path, op.cid) for op in ops if op.cid is not None]
    removed = [op.path for op in ops if op.cid is None]
    released = list({op.prev for op in ops if op.prev is not None})
    if present:
        conn.execute(
            "INSERT INTO record (account, path, cid)"
            " SELECT %s, path, cid FROM unnest(%s::text[], %b::bytea[])"
            " AS new (path, cid)"
            " ON CONFLICT (account, path) DO UPDATE SET cid = excluded.cid",
            [account, [path for path, _ in present], [cid for _, cid in present]],
        )
    if removed:
        conn.execute(
            "DELETE FROM record WHERE account = %s AND path = ANY(%s)",
            [account, removed],
        )
    if released:
        # Several keys may have the same block.
        conn.execute(
            "DELETE FROM block b WHERE account = %s AND cid = ANY(%b) AND NOT EXISTS"
            " (SELECT FROM record r WHERE r.account = b.account AND r.cid = b.cid)",
            [account, released],
        )


def _write_blob_uses(
    conn: Conn,
    account: int,
    writes: Iterable[Write],
    ops: Iterable[CommitOp],
    rev: str,
    now: datetime,
) -> None:
    replaced = [op.path for op in ops if op.prev is not None]
    if replaced:
        release_blobs(conn, account, replaced, now)
    uses = [(write.path, blob) for write in writes for blob in write.blobs]
    use_blobs(conn, account, uses, rev, now)
