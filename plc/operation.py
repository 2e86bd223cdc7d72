"""The rules of did:plc logs (specification v0.3): pure checks of a history.

Times are Unix milliseconds, the precision of directories.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plc.operation_format import (
    AnyOperation,
    Tombstone,
    did_for_genesis,
    find_signer,
    normalize,
    operation_cid,
    operation_json,
    parse_operation,
)
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    InvalidSyntaxError,
    LimitExceededError,
    ProtocolError,
)
from protocol.syntax import Did, datetime_from_us, datetime_us

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
RECOVERY_WINDOW_MS: Final = 72 * HOUR_MS

# (window, operations within it), as in the reference directory.
QUOTAS: Final = ((HOUR_MS, 10), (DAY_MS, 30), (7 * DAY_MS, 100))

# Two years at the weekly quota.
MAX_LOG_ENTRIES: Final = 10_000


class OperationError(ProtocolError):
    """A well-formed operation that may not follow in its log."""


class GenesisHashError(OperationError):
    """A first operation whose hash is not the DID."""


class MisorderedOperationError(OperationError):
    """An operation whose prev or time does not continue the log."""


class OutrankedError(OperationError):
    """A fork whose key is not stronger than that of the operation it would undo."""


class LateRecoveryError(OperationError):
    """A fork by a stronger key after the 72 hours."""


class QuotaExceededError(LimitExceededError):
    """Too many operations of a DID in an hour, day or week."""


class InconsistentLogError(ProtocolError):
    """A published log that contradicts itself or the DID."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An operation and the time at which a directory accepted it."""

    did: Did
    operation: AnyOperation
    cid: str
    nullified: bool
    created_ms: int

    def to_json(self) -> dict[str, object]:
        """Return the entry as in `/log/audit` and `/export`."""
        return {
            "did": self.did,
            "operation": operation_json(self.operation),
            "cid": self.cid,
            "nullified": self.nullified,
            "createdAt": format_time(self.created_ms),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of accepting an operation: its CID, and the CIDs that it nullifies.

    `signer` is the did:key that signed.
    """

    cid: str
    signer: str
    nullified: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditedLog:
    """A valid log; `tolerated` are the CIDs accepted without a valid signature."""

    entries: tuple[LogEntry, ...]
    tolerated: tuple[str, ...]

    @property
    def current(self) -> LogEntry:
        """Return the last entry that is not nullified."""
        return next(e for e in reversed(self.entries) if not e.nullified)


def format_time(time_ms: int) -> str:
    """Return a time as directories write it, such as `2025-07-25T14:14:48.962Z`."""
    return datetime_from_us(time_ms * 1000)


def parse_time(text: str) -> int:
    """Return Unix milliseconds of a time in that form; raise InvalidSyntaxError."""
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
    """Return the verdict on accepting `proposed` at `now_ms` after `history`.

    `history` is in order of acceptance, with nullified entries. `tolerated` are CIDs
    accepted without a valid signature, see `verify_audit_log`.

    Verifies the hash of a first operation; that prev is a valid operation and no
    tombstone; that the time rises; the signature by a rotation key of the operation at
    prev. For a fork, its key must be stronger than that of the first operation to undo,
    which is at most 72 hours old. Does not verify quotas or limits of size and content.

    Raises a subclass of OperationError, or InvalidSignatureError.
    """
    chain = [entry for entry in history if not entry.nullified]
    if history and not chain:
        raise InconsistentLogError("all entries of the log are nullified")
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
        raise MisorderedOperationError("prev is not an operation in force")
    before = chain[index].operation
    if isinstance(before, Tombstone):
        raise MisorderedOperationError("nothing may follow a tombstone")
    if now_ms <= chain[-1].created_ms:
        raise MisorderedOperationError("time is not later than the operation before")
    keys = normalize(before).rotation_keys
    undone = chain[index + 1 :]
    # A tolerated operation counts as signed by the weakest key: it undoes nothing, and
    # every key undoes it at any time. The public directory removed such operations
    # from its logs years later.
    signer = len(keys) if cid in tolerated else _signer(proposed, keys)
    if undone:
        first = undone[0]
        trusted = first.cid in tolerated
        disputed = len(keys) if trusted else _signer(first.operation, keys)
        if signer >= disputed:
            raise OutrankedError("the fork's key is not stronger")
        if not trusted and now_ms - first.created_ms > RECOVERY_WINDOW_MS:
            raise LateRecoveryError("the recovery window of 72 hours is over")
    name = keys[signer] if signer < len(keys) else ""
    return Verdict(cid, name, tuple(entry.cid for entry in undone))


def _check_genesis(
    did: Did, cid: str, proposed: AnyOperation, tolerated: Collection[str]
) -> Verdict:
    if isinstance(proposed, Tombstone) or proposed.prev is not None:
        raise MisorderedOperationError("the first operation has a prev")
    if did_for_genesis(proposed) != did:
        raise GenesisHashError("the operation creates another DID")
    keys = normalize(proposed).rotation_keys
    name = "" if cid in tolerated else keys[_signer(proposed, keys)]
    return Verdict(cid, name, ())


def _signer(operation: AnyOperation, keys: Sequence[str]) -> int:
    index = find_signer(operation, keys)
    if index is None:
        raise InvalidSignatureError("not signed by a rotation key")
    return index


def check_quota(history: Iterable[LogEntry], now_ms: int) -> None:
    """Raise QuotaExceededError if a directory accepts no more operations of this DID.

    Nullified entries do not count, so an attacker cannot use up the owner's quota.
    Recoveries are exempt.
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
    """Verify a whole audit log, as `GET /{did}/log/audit` returns it (JSON).

    Verifies the rules of `check_next_operation` at each entry's time, each DID and CID,
    and the nullified flags. A log cannot show missing final operations, missing
    nullified branches or false times.

    `tolerated` lists CIDs accepted without a valid signature, for a few thousand old
    entries of the public directory.

    Raises InconsistentLogError, InvalidEncodingError, InvalidSyntaxError,
    LimitExceededError, OperationError or InvalidSignatureError.
    """
    if not isinstance(entries, list) or not entries:
        raise InconsistentLogError("log is not a list of operations")
    if len(entries) > MAX_LOG_ENTRIES:
        raise LimitExceededError(f"log has more than {MAX_LOG_ENTRIES} operations")
    chain: list[LogEntry] = []
    undone: set[str] = set()
    accepted: list[LogEntry] = []
    claimed: dict[str, bool] = {}
    for value in entries:
        entry = _parse_entry(did, value)
        verdict = _check_next(did, chain, entry.operation, entry.created_ms, tolerated)
        if verdict.cid != entry.cid or entry.cid in claimed:
            raise InconsistentLogError("an entry has the wrong CID")
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
        raise InconsistentLogError("an entry belongs to another DID")
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
