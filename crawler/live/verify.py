"""Verification of one message: from a decoded frame to a verified event.

Pure: key and time are arguments, and nothing is resolved or kept. The indexer checks
later that a commit follows from the stored state, and the gate checks the host before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from crawler.live.rejections import MissingRecordError, RejectedError
from protocol.data.cbor_scan import scan_items
from protocol.data.cid import is_data_cid
from protocol.data.record import open_record
from protocol.errors import (
    InvalidEncodingError,
    InvalidTreeError,
    LimitExceededError,
    MissingBlockError,
    ProtocolError,
)
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp, RecordOp, SyncEvent
from protocol.identity.keys import PublicKey
from protocol.limits import (
    MAX_COMMIT_BLOCKS_BYTES,
    MAX_COMMIT_ITEMS,
    MAX_COMMIT_OPS,
    MAX_PATH_BYTES,
    MAX_RECORD_BYTES,
    MAX_RECORD_DEPTH,
    MAX_SEQ,
    MAX_SYNC_BLOCKS_BYTES,
    UNCOUNTED_RECORD_BYTES,
)
from protocol.mst import EMPTY_ROOT, OperationMismatchError, TreeOp, invert
from protocol.repo.car import Car, read_car
from protocol.repo.commit import (
    Commit,
    latest_rev,
    parse_commit,
    verify_commit_signature,
)
from protocol.syntax import (
    Did,
    Nsid,
    RecordKey,
    Tid,
    is_did,
    is_nsid,
    is_record_key,
    is_tid,
)

_CREATE: Final = "create"
_UPDATE: Final = "update"
_DELETE: Final = "delete"

# Records up to this size are passed on decoded: enough for a post. Decoded records may
# take seventy times the memory, and three thousand commits may wait to be written.
_KEPT_DECODED_BYTES: Final = 512

# A few hundred collections make up nearly all records.
_is_collection = lru_cache(maxsize=8_192)(is_nsid)


def verify_commit(
    body: Mapping[str, Any], key: PublicKey, now_us: int, *, host: int = 0
) -> CommitEvent:
    """Return the verified event of a `#commit` message (specs/sync).

    `body` is the payload from `decode_frame`, links as bytes; `key` the signing key of
    the account; `now_us` our clock.

    Verifies sizes, types and syntax of the fields, and that the revision is not in the
    future. Verifies the hash of every block, that commit block and message agree, and
    the signature. Verifies that every operation agrees with the new tree, and that
    undoing all of them gives `prevData`. A first commit has no `prevData` and must
    follow from the empty tree.

    Does not verify that a created key stands between its neighbours where their nodes
    are missing; such keys are counted as `unchecked`. Does not verify that the key is
    current, that the host may send it, that the account is active, or that the chain
    continues our state. A message that is not the first and has no `prevData` comes
    back without operations.

    An operation with an invalid path or record becomes a DroppedOp; its siblings stay.
    Raises InvalidSignatureError, MissingRecordError, RejectedError or another
    ProtocolError (see `drop_reason`).
    """
    (result,) = verify_commits([(body, key, host)], now_us)
    if isinstance(result, Exception):
        raise result
    return result


def verify_commits(
    messages: Sequence[tuple[Mapping[str, Any], PublicKey, int]], now_us: int
) -> list[CommitEvent | Exception]:
    """Return the event of each (body, key, host), or the error of `verify_commit`.

    Each step is done for all of them, which is a seventh faster. All blocks are held at
    once, so groups should be small.
    """
    results: list[Any] = []
    for body, _, host in messages:
        try:
            results.append(_read_claim(body, now_us, host))
        except Exception as error:
            results.append(error)
    for index, (_, key, _) in enumerate(messages):
        claim = results[index]
        if type(claim) is _Claim:
            try:
                verify_commit_signature(claim.signed, key, claim.commit)
            except Exception as error:
                results[index] = error
    for index, claim in enumerate(results):
        if type(claim) is _Claim:
            try:
                results[index] = _follow(claim)
            except Exception as error:
                results[index] = error
    return results


class _Claim(NamedTuple):
    """The fields of a message, well formed and not verified."""

    did: Did
    rev: Tid
    since: Tid | None
    prev_data: bytes | None
    seq: int
    ops: list[Any]
    car: Car
    signed: bytes
    commit: Commit
    host: int


def _read_claim(body: Mapping[str, Any], now_us: int, host: int) -> _Claim:
    did, rev = _read_subject(body, "repo", now_us)
    since = body.get("since")
    if since is not None and (type(since) is not str or not is_tid(since)):
        raise RejectedError(DropReason.BAD_FIELD, "since is no revision")
    prev_data = body.get("prevData")
    if prev_data is not None and (
        type(prev_data) is not bytes or not is_data_cid(prev_data)
    ):
        raise RejectedError(DropReason.BAD_FIELD, "prevData is no link to a tree")
    seq = _read_seq(body)
    ops = body.get("ops")
    if type(ops) is not list:
        raise RejectedError(DropReason.BAD_FIELD, "no operations")
    if len(ops) > MAX_COMMIT_OPS:
        raise RejectedError(DropReason.TOO_MANY_OPS, "too many operations")

    car = _read_blocks(body, MAX_COMMIT_BLOCKS_BYTES)
    if body.get("commit") != car.root:
        raise RejectedError(DropReason.COMMIT_MISMATCH, "commit is not the CAR's root")
    signed = car.blocks[car.root]
    commit = _read_commit(signed, did, rev)
    older = None if since is None else Tid(since)
    fields = did, rev, older, prev_data, seq, ops, car, signed, commit, host
    return tuple.__new__(_Claim, fields)


def _follow(claim: _Claim) -> CommitEvent:
    """Return the event of a signed claim, if its operations are true."""
    did, rev, since, prev_data, seq, ops, car, signed, commit, host = claim
    records: list[RecordOp] = []
    drops: list[DroppedOp] = []
    unchecked: list[bytes] = []
    if prev_data is not None:
        _check_inversion(car, commit, ops, prev_data, unchecked)
    elif since is None and _is_first(car, commit, ops):
        prev_data = EMPTY_ROOT
    if prev_data is not None:
        _read_records(car.blocks, ops, records, drops)
    return CommitEvent(
        did,
        rev,
        since,
        commit.data,
        prev_data,
        signed,
        records,
        drops,
        seq,
        host,
        len(unchecked),
    )


def verify_sync(
    body: Mapping[str, Any], key: PublicKey, now_us: int, *, host: int = 0
) -> SyncEvent:
    """Return the verified event of a `#sync` message (specs/sync).

    Verifies sizes, types and syntax of the fields, the revision, the hash of the block,
    its agreement with the message, and the signature. Does not verify the tree, which
    is not part of the message, nor what `verify_commit` leaves to its caller. Raises
    InvalidSignatureError, RejectedError or another ProtocolError.
    """
    did, rev = _read_subject(body, "did", now_us)
    seq = _read_seq(body)
    car = _read_blocks(body, MAX_SYNC_BLOCKS_BYTES)
    signed = car.blocks[car.root]
    commit = _read_commit(signed, did, rev)
    verify_commit_signature(signed, key, commit)
    return SyncEvent(did, rev, commit.data, signed, seq, host)


def _read_subject(body: Mapping[str, Any], field: str, now_us: int) -> tuple[Did, Tid]:
    did = body.get(field)
    if type(did) is not str or not is_did(did):
        raise RejectedError(DropReason.BAD_FIELD, "no DID")
    rev = body.get("rev")
    if type(rev) is not str or not is_tid(rev):
        raise RejectedError(DropReason.BAD_FIELD, "no revision")
    if rev > latest_rev(now_us):
        raise RejectedError(DropReason.FUTURE_REV, "the revision is in the future")
    return Did(did), Tid(rev)


def _read_seq(body: Mapping[str, Any]) -> int:
    seq = body.get("seq")
    if type(seq) is not int or not 0 < seq <= MAX_SEQ:
        raise RejectedError(DropReason.BAD_SEQ, "no sequence number")
    return seq


def _read_blocks(body: Mapping[str, Any], limit: int) -> Car:
    blocks = body.get("blocks")
    if type(blocks) is not bytes:
        raise RejectedError(DropReason.BAD_FIELD, "no blocks")
    if len(blocks) > limit:
        raise RejectedError(DropReason.BLOCKS_TOO_LARGE, "too many bytes of blocks")
    try:
        return read_car(blocks)
    except ProtocolError as error:
        raise RejectedError(DropReason.BAD_CAR, str(error)) from error


def _read_commit(signed: bytes, did: Did, rev: Tid) -> Commit:
    try:
        commit = parse_commit(signed)
    except ProtocolError as error:
        raise RejectedError(DropReason.BAD_COMMIT, str(error)) from error
    if commit.did != did or commit.rev != rev:
        raise RejectedError(
            DropReason.COMMIT_MISMATCH, "the commit is of another account or revision"
        )
    return commit


def _check_inversion(
    car: Car,
    commit: Commit,
    ops: list[Any],
    prev_data: bytes,
    unchecked: list[bytes] | None = None,
) -> None:
    """Raise RejectedError or MissingBlockError unless undoing `ops` gives
    `prev_data`.

    `unchecked` receives the created keys whose neighbours did not come along.
    """
    undone = [_read_op(op) for op in ops]
    try:
        older = invert(car.blocks, commit.data, undone, prev_data, unchecked)
    except OperationMismatchError as error:
        raise RejectedError(DropReason.OPS_MISMATCH, str(error)) from error
    except InvalidTreeError as error:
        raise RejectedError(DropReason.BAD_TREE, str(error)) from error
    except LimitExceededError as error:
        raise RejectedError(DropReason.TREE_TOO_LARGE, str(error)) from error
    if older != prev_data:
        raise RejectedError(
            DropReason.PREV_DATA_MISMATCH,
            "the operations do not lead from prevData to the commit",
        )


def _is_first(car: Car, commit: Commit, ops: list[Any]) -> bool:
    """Return True if a commit without a predecessor builds its tree from nothing.

    If not, it comes from software older than `prevData`, and cannot be judged.
    """
    try:
        _check_inversion(car, commit, ops, EMPTY_ROOT)
    except (RejectedError, MissingBlockError):
        return False
    return True


def _read_op(op: Any) -> TreeOp:
    """Return the claim of one operation about the two trees."""
    if type(op) is not dict:
        raise RejectedError(DropReason.BAD_FIELD, "an operation that is no map")
    path = op.get("path")
    if type(path) is not str:
        raise RejectedError(DropReason.BAD_FIELD, "an operation without a path")
    action = op.get("action")
    cid = op.get("cid")
    prev = op.get("prev")
    if action == _CREATE:
        fits = type(cid) is bytes and prev is None
    elif action == _UPDATE:
        fits = type(cid) is bytes and type(prev) is bytes
    elif action == _DELETE:
        fits = cid is None and type(prev) is bytes
    else:
        raise RejectedError(DropReason.BAD_FIELD, "an unknown action")
    if not fits:
        raise RejectedError(DropReason.OPS_MISMATCH, "an operation at odds with itself")
    # Half the time of the usual constructor.
    return tuple.__new__(TreeOp, (path.encode(), cid, prev))


def _read_records(
    blocks: Mapping[bytes, bytes],
    ops: list[dict[str, Any]],
    records: list[RecordOp],
    drops: list[DroppedOp],
) -> None:
    """Return the proven operations with valid records, and the dropped ones.

    Raises RejectedError where decoding would take far longer than for an honest commit:
    the repo is then fetched in the background.
    """
    size = items = 0
    for op in ops:
        path: str = op["path"]
        cid: bytes | None = op.get("cid")
        collection, _, rkey = path.partition("/")
        if (
            len(path) > MAX_PATH_BYTES
            or not _is_collection(collection)
            or not is_record_key(rkey)
        ):
            drops.append(DroppedOp(path, cid, DropReason.BAD_PATH))
            continue
        value: bytes | None = None
        fields: Any = None
        if cid is not None:
            if not is_data_cid(cid):
                drops.append(DroppedOp(path, cid, DropReason.BAD_RECORD_ENCODING))
                continue
            value = blocks.get(cid)
            if value is None:
                raise MissingRecordError("a record did not come with its commit")
            size += len(value)
            if size > UNCOUNTED_RECORD_BYTES:
                items += _count_items(value)
                if size > MAX_COMMIT_BLOCKS_BYTES or items > MAX_COMMIT_ITEMS:
                    raise RejectedError(
                        DropReason.TREE_TOO_LARGE, "too much in the records"
                    )
            fields = open_record(value, MAX_RECORD_BYTES)
            if type(fields) is not dict:
                drops.append(DroppedOp(path, cid, fields))
                continue
            if size > _KEPT_DECODED_BYTES:
                fields = None
        records.append(
            RecordOp(
                op["action"], Nsid(collection), RecordKey(rkey), cid, value, fields
            )
        )


def _count_items(value: bytes) -> int:
    """Return the number of items to decode in a record; 0 if it is not one."""
    try:
        return scan_items(
            value, max_depth=MAX_RECORD_DEPTH, max_items=MAX_COMMIT_ITEMS
        )[1]
    except LimitExceededError:
        return MAX_COMMIT_ITEMS + 1
    except InvalidEncodingError:
        return 0
