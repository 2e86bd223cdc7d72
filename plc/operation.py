"""The rules of did:plc: which operation may follow which, and what a log proves.

Pure: history in, verdict out (did:plc specification v0.3). Times are Unix time in
whole milliseconds, the precision in which directories publish them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plc.operation_document import operation_data, operation_document
from plc.operation_draft import (
    check_submission,
    create_genesis,
    create_tombstone,
    create_update,
)
from plc.operation_format import (
    AnyOperation,
    LegacyCreate,
    Operation,
    PlcService,
    Tombstone,
    did_for_genesis,
    find_signer,
    normalize,
    operation_bytes,
    operation_cid,
    operation_json,
    parse_operation,
    sign_operation,
)
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    InvalidSyntaxError,
    LimitExceededError,
    ProtocolError,
)
from protocol.syntax import Did, datetime_from_us, datetime_us

__all__ = [
    "DAY_MS",
    "HOUR_MS",
    "AnyOperation",
    "AuditedLog",
    "GenesisHashError",
    "InconsistentLogError",
    "LateRecoveryError",
    "LegacyCreate",
    "LogEntry",
    "MisorderedOperationError",
    "Operation",
    "OperationError",
    "OutrankedError",
    "PlcService",
    "QuotaExceededError",
    "Tombstone",
    "Verdict",
    "check_next_operation",
    "check_quota",
    "check_submission",
    "create_genesis",
    "create_tombstone",
    "create_update",
    "did_for_genesis",
    "find_signer",
    "format_time",
    "normalize",
    "operation_bytes",
    "operation_cid",
    "operation_data",
    "operation_document",
    "operation_json",
    "parse_operation",
    "parse_time",
    "sign_operation",
    "verify_audit_log",
]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
RECOVERY_WINDOW_MS: Final = 72 * HOUR_MS

# (window, operations that may lie within it), as the reference directory counts.
QUOTAS: Final = ((HOUR_MS, 10), (DAY_MS, 30), (7 * DAY_MS, 100))

# At the weekly quota this is two years of nothing but operations.
MAX_LOG_ENTRIES: Final = 10_000


class OperationError(ProtocolError):
    """An operation that is well formed but may not follow in its log."""


class GenesisHashError(OperationError):
    """A first operation whose hash is not the DID."""


class MisorderedOperationError(OperationError):
    """An operation that does not continue the log: its prev, or its time."""


class OutrankedError(OperationError):
    """A fork whose key is not stronger than that of the operation it would undo."""


class LateRecoveryError(OperationError):
    """A fork by a stronger key, but after the 72 hours."""


class QuotaExceededError(LimitExceededError):
    """More operations for one DID than a directory takes in an hour, day or week."""


class InconsistentLogError(ProtocolError):
    """A published log that contradicts itself or the DID."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An operation that a directory accepted, and when."""

    did: Did
    operation: AnyOperation
    cid: str
    nullified: bool
    created_ms: int

    def to_json(self) -> dict[str, object]:
        """The entry as `/log/audit` and `/export` show it."""
        return {
            "did": self.did,
            "operation": operation_json(self.operation),
            "cid": self.cid,
            "nullified": self.nullified,
            "createdAt": format_time(self.created_ms),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What accepting an operation means: its CID, and the CIDs that it undoes.

    `signer` is the did:key that signed.
    """

    cid: str
    signer: str
    nullified: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditedLog:
    """A log that holds. `tolerated` are the CIDs taken on trust, see the verifier."""

    entries: tuple[LogEntry, ...]
    tolerated: tuple[str, ...]

    @property
    def current(self) -> LogEntry:
        """The last operation that stands."""
        return next(e for e in reversed(self.entries) if not e.nullified)


def format_time(time_ms: int) -> str:
    """`2025-07-25T14:14:48.962Z`, the one form that directories write."""
    return datetime_from_us(time_ms * 1000)


def parse_time(text: str) -> int:
    """Unix milliseconds of a time in exactly that form; raises InvalidSyntaxError."""
    time_ms = datetime_us(text) // 1000
    if format_time(time_ms) != text:
        raise InvalidSyntaxError(f"not a directory's timestamp: {text[:40]!r}")
    return time_ms


def check_next_operation(
    did: Did,
    history: Sequence[LogEntry],
    proposed: AnyOperation,
    now_ms: int,
    *,
    tolerated: Collection[str] = frozenset(),
) -> Verdict:
    """Whether a directory may accept `proposed` at `now_ms` after `history`.

    `history` is the log in the order of acceptance; nullified entries may be in it.
    `tolerated` are CIDs taken without a valid signature, see `verify_audit_log`.

    Verifies: the hash of a first operation; that prev is an operation that stands and
    is no tombstone; that the time rises; the signature, strict, by a rotation key of
    the operation at prev; and for a fork that its key is stronger than the one that
    signed the first operation to be undone, at most 72 hours ago. Does not verify
    quotas or a directory's limits on size and content.

    Raises OperationError (a subclass says which rule) or InvalidSignatureError.
    """
    chain = [entry for entry in history if not entry.nullified]
    if history and not chain:
        raise InconsistentLogError("a log in which nothing stands")
    return _check_next(did, chain, proposed, now_ms, tolerated)


def _check_next(
    did: Did,
    chain: Sequence[LogEntry],
    proposed: AnyOperation,
    now_ms: int,
    tolerated: Collection[str],
) -> Verdict:
    cid = operation_cid(proposed)
    if not chain:
        return _check_genesis(did, cid, proposed, tolerated)
    index = next(
        (i for i in reversed(range(len(chain))) if chain[i].cid == proposed.prev), None
    )
    if index is None:
        raise MisorderedOperationError("prev is not an operation that stands")
    before = chain[index].operation
    if isinstance(before, Tombstone):
        raise MisorderedOperationError("nothing follows a tombstone")
    if now_ms <= chain[-1].created_ms:
        raise MisorderedOperationError("not later than the operation before")
    keys = normalize(before).rotation_keys
    undone = chain[index + 1 :]
    # An operation taken on trust counts as signed by the weakest key: it undoes
    # nothing, and every real key undoes it, at any time: the public directory took
    # such operations out of its logs years after it had accepted them.
    signer = len(keys) if cid in tolerated else _signer(proposed, keys)
    if undone:
        first = undone[0]
        trusted = first.cid in tolerated
        disputed = len(keys) if trusted else _signer(first.operation, keys)
        if signer >= disputed:
            raise OutrankedError("the fork's key is not the stronger one")
        if not trusted and now_ms - first.created_ms > RECOVERY_WINDOW_MS:
            raise LateRecoveryError("the 72 hours for recovery are over")
    name = keys[signer] if signer < len(keys) else ""
    return Verdict(cid, name, tuple(entry.cid for entry in undone))


def _check_genesis(
    did: Did, cid: str, proposed: AnyOperation, tolerated: Collection[str]
) -> Verdict:
    if isinstance(proposed, Tombstone) or proposed.prev is not None:
        raise MisorderedOperationError("the first operation names one before it")
    if did_for_genesis(proposed) != did:
        raise GenesisHashError("the operation makes another DID")
    keys = normalize(proposed).rotation_keys
    name = "" if cid in tolerated else keys[_signer(proposed, keys)]
    return Verdict(cid, name, ())


def _signer(operation: AnyOperation, keys: Sequence[str]) -> int:
    index = find_signer(operation, keys)
    if index is None:
        raise InvalidSignatureError("signed by none of the rotation keys")
    return index


def check_quota(history: Iterable[LogEntry], now_ms: int) -> None:
    """Whether a directory takes one more operation for this DID.

    Only entries that stand count, so that whoever wins an identity back is not held
    up by what the thief did. A recovery itself is not under the quota. Raises
    QuotaExceededError.
    """
    times = [entry.created_ms for entry in history if not entry.nullified]
    for window, limit in QUOTAS:
        if sum(now_ms - time < window for time in times) >= limit:
            raise QuotaExceededError(
                f"{limit} operations within {window // HOUR_MS} hours"
            )


def verify_audit_log(
    did: Did, entries: object, *, tolerated: Collection[str] = frozenset()
) -> AuditedLog:
    """Replays a whole audit log, as `GET /{did}/log/audit` gives it (JSON).

    Verifies: every rule of `check_next_operation` at each entry's own time, that each
    entry is of `did` and its CID the hash of its operation, and that exactly the
    operations marked nullified are. Does not verify, because a log cannot show it,
    that the directory left nothing out at the end, nor a branch that was undone, nor
    that its times are true.

    `tolerated` lists CIDs of operations to take without a valid signature: a few
    thousand old entries of the public directory would be refused today. A CID fixes
    every byte, so the list cannot be stretched to other operations.

    Raises InconsistentLogError, InvalidEncodingError, InvalidSyntaxError,
    LimitExceededError, OperationError or InvalidSignatureError.
    """
    if not isinstance(entries, list) or not entries:
        raise InconsistentLogError("not a log with at least one operation")
    if len(entries) > MAX_LOG_ENTRIES:
        raise LimitExceededError(f"log of over {MAX_LOG_ENTRIES} operations")
    chain: list[LogEntry] = []
    undone: set[str] = set()
    accepted: list[LogEntry] = []
    claimed: dict[str, bool] = {}
    for value in entries:
        entry = _parse_entry(did, value)
        verdict = _check_next(did, chain, entry.operation, entry.created_ms, tolerated)
        if verdict.cid != entry.cid or entry.cid in claimed:
            raise InconsistentLogError("an entry's CID is not its operation's")
        if verdict.nullified:
            undone.update(verdict.nullified)
            del chain[-len(verdict.nullified) :]
        claimed[entry.cid] = entry.nullified
        chain.append(entry)
        accepted.append(entry)
    for cid, nullified in claimed.items():
        if nullified != (cid in undone):
            raise InconsistentLogError("an entry is wrongly marked as nullified")
    return AuditedLog(
        entries=tuple(accepted),
        tolerated=tuple(cid for cid in claimed if cid in tolerated),
    )


def _parse_entry(did: Did, value: object) -> LogEntry:
    if not isinstance(value, Mapping):
        raise InvalidEncodingError("log entry is not an object")
    if value.get("did") != did:
        raise InconsistentLogError("an entry is of another DID")
    cid, nullified, created = (
        value.get(name) for name in ("cid", "nullified", "createdAt")
    )
    if not (
        isinstance(cid, str)
        and isinstance(nullified, bool)
        and isinstance(created, str)
    ):
        raise InvalidEncodingError("log entry lacks cid, nullified or createdAt")
    operation = parse_operation(value.get("operation"))
    return LogEntry(did, operation, cid, nullified, parse_time(created))
