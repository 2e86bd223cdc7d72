"""Partial fetch: a stored repo moved forward by what changed since.

The difference is merged with our records. Nothing is written unless the rebuilt root is
the one that the new commit signs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from indexer.apply import apply_commits, plan_for_probes
from indexer.repos.checkout import (
    LOCK_CLASS,
    StaleCheckoutError,
    settle_repo,
    sync_frame_of,
)
from indexer.repos.repo_states import lock_repos
from protocol.data.cid import is_data_cid
from protocol.data.record import open_record
from protocol.errors import InvalidSyntaxError, ProtocolError
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp, RecordOp
from protocol.limits import MAX_RECORD_BYTES_BACKFILL
from protocol.mst import build_root
from protocol.mst.ranges import keep_within, locate_nodes
from protocol.repo.repo_diff import RepoDiff
from protocol.syntax import parse_path
from protocol.syntax.did import Did
from protocol.syntax.tid import Tid
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records import event_log
from storage.records.interning import Interner
from storage.records.record_rows import iter_repo
from storage.records.stats import apply_stats
from storage.repos.resync_buffer import clear_commits, load_commits
from storage.states import REPO_RESYNCING, REPO_SYNCHRONIZED, STATUS_DELETED

MAX_CHANGES: Final = 100_000
MAX_CHANGED_BYTES: Final = 32 * 1024**2
"""Limits of changed keys and of changed records; beyond, fetch the whole repo."""


class DiffMismatchError(Exception):
    """The difference and our records do not make the signed tree: the repo must be
    fetched whole. Nothing was written."""


@retry_conflicts
def apply_diff(
    conn: Conn,
    interner: Interner,
    did: str,
    host: int,
    since: str,
    diff: RepoDiff,
    now: datetime,
    *,
    rebroadcast: bool = False,
) -> int:
    """Move a claimed repo from `since` to the head of `diff`, then apply its buffered
    commits, in one transaction; return the number of changed records.

    Raises DiffMismatchError or StaleCheckoutError; then nothing was written.
    """
    actor = interner.actors([did])[did]
    with whole_transaction(conn):
        plan_for_probes(conn)
        held = conn.execute(
            "SELECT pg_try_advisory_xact_lock(%s, %s), rev, data, state, selection"
            " FROM repo WHERE actor = %s",
            (LOCK_CLASS, actor, actor),
        ).fetchone()
        if held is None or not held[0] or held[1:4:2] != (since, REPO_RESYNCING):
            raise StaleCheckoutError("the repo changed after it was claimed")
        if held[4] is not None:
            raise DiffMismatchError("only some collections are stored")
        if diff.head.rev < since:
            raise StaleCheckoutError(f"rev {diff.head.rev} is older than {since}")
        event = _as_commit(conn, actor, did, host, since, held[2], diff)
        repo = lock_repos(conn, {actor: host or None}, [actor])[actor]
        if repo.rev != since or repo.status == STATUS_DELETED or repo.doubted:
            raise StaleCheckoutError("the repo changed during the comparison")
        buffered = load_commits(conn, actor)
        repo.state = REPO_SYNCHRONIZED
        if event.rev == since:
            # Nothing new: the host has the same records.
            repo.advance(since, diff.head.data, diff.head.commit)
            followers: Sequence[CommitEvent] = buffered
        else:
            followers = [event, *buffered]
        result, stats = apply_commits(conn, interner, repo, followers, now)
        clear_commits(conn, actor)
        settle_repo(conn, repo, host)
        if rebroadcast and repo.rev != since:
            event_log.append(conn, [sync_frame_of(did, repo, now)])
        apply_stats(conn, stats)
    return result.records


def _as_commit(
    conn: Conn, actor: int, did: str, host: int, since: str, data: bytes, diff: RepoDiff
) -> CommitEvent:
    """Return one commit with all changes of the difference."""
    part = diff.part
    others: dict[bytes, bytes] = {}

    def note(key: bytes, cid: bytes) -> None:
        others[key] = cid
        if len(others) > MAX_CHANGES:
            raise DiffMismatchError("too much changed")

    def ours() -> Iterator[tuple[bytes, bytes]]:
        for key, cid, _ in iter_repo(conn, actor):
            yield key, cid

    try:
        # Nodes that were not sent are unchanged, in their old places.
        places = locate_nodes(ours(), part.missing)
        gaps = [places[cid] for cid in part.missing if cid in places]
        root = build_root(heapq.merge(part.found, keep_within(ours(), gaps, note)))
    except ProtocolError as error:
        raise DiffMismatchError(str(error)) from error
    if root != diff.head.data:
        raise DiffMismatchError("the rebuilt root is not the signed one")
    ops: list[RecordOp] = []
    drops: list[DroppedOp] = []
    size = 0
    for key, cid in part.found:
        before = others.pop(key, None)
        if before != cid:
            # One block may occur under every key.
            size += len(diff.blocks.get(cid, b""))
            if size > MAX_CHANGED_BYTES:
                raise DiffMismatchError("too much changed")
            _add(key, cid, before is None, diff.blocks, ops, drops)
    for key in others:
        path = _parse(key)
        if path is None:
            drops.append(DroppedOp(_text(key), None, DropReason.BAD_PATH))
        else:
            ops.append(RecordOp("delete", *path))  # type: ignore[arg-type]
    return CommitEvent(
        did=Did(did),
        rev=Tid(diff.head.rev),
        since=Tid(since),
        data=diff.head.data,
        prev_data=data,
        commit=diff.head.commit,
        ops=tuple(ops),
        drops=tuple(drops),
        seq=0,
        host=host,
    )


def _add(
    key: bytes,
    cid: bytes,
    fresh: bool,
    blocks: Mapping[bytes, bytes],
    ops: list[RecordOp],
    drops: list[DroppedOp],
) -> None:
    path = _parse(key)
    value = blocks.get(cid)
    if path is None:
        drops.append(DroppedOp(_text(key), cid, DropReason.BAD_PATH))
    elif not is_data_cid(cid):
        drops.append(DroppedOp(_text(key), cid, DropReason.BAD_RECORD_ENCODING))
    elif value is None:
        raise DiffMismatchError("a new record is missing")
    else:
        fields = open_record(value, MAX_RECORD_BYTES_BACKFILL)
        if isinstance(fields, DropReason):
            drops.append(DroppedOp(_text(key), cid, fields))
            return
        action = "create" if fresh else "update"
        # Not kept decoded, which may take seventy times the memory.
        ops.append(RecordOp(action, *path, cid, value))  # type: ignore[arg-type]


def _parse(key: bytes) -> tuple[str, str] | None:
    try:
        return parse_path(_text(key))
    except InvalidSyntaxError:
        return None


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
