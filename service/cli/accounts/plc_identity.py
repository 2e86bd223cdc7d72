"""The did:plc identity of an account, proven from its log, and new operations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from network.errors import XrpcError
from pds.identity.directory import Directory
from plc.exceptions import load_exceptions
from plc.operation import (
    RECOVERY_WINDOW_MS,
    AuditedLog,
    LogEntry,
    check_next_operation,
    check_quota,
    verify_audit_log,
)
from plc.operation_draft import MAX_ROTATION_KEYS_SENT, create_amendment
from plc.operation_format import (
    LegacyCreate,
    Operation,
    Tombstone,
    normalize,
    parse_operation,
)
from protocol.errors import ProtocolError
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did, is_plc_did
from service.operator_errors import ServiceError
from service.outgoing import make_fetcher
from service.runtime.config import Config

_NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class PlcIdentity:
    """An identity in the state of its newest operation."""

    did: Did
    log: AuditedLog

    @property
    def last(self) -> Operation | LegacyCreate:
        operation = self.log.current.operation
        assert not isinstance(operation, Tombstone)
        return operation

    @property
    def state(self) -> Operation:
        return normalize(self.last)

    def place_of(self, key: PrivateKey) -> int:
        """Return the place of a key, 0 for the strongest. Raises ServiceError."""
        try:
            return self.state.rotation_keys.index(key.public.did_key)
        except ValueError:
            raise ServiceError(
                f"{key.public.did_key} is not a rotation key of {self.did}: it has"
                " been replaced, or belongs to another account"
            ) from None

    def recent_changes(self, now_ms: int) -> list[LogEntry]:
        """Return the operations that a stronger key can still undo."""
        return [
            entry
            for entry in self.log.entries[1:]
            if not entry.nullified and now_ms - entry.created_ms <= RECOVERY_WINDOW_MS
        ]

    def require_acceptable(self, operation: Operation, now_ms: int) -> str:
        """Return the did:key that signed an operation that may come next.

        Checked by the rules of directories, without asking one. Raises ServiceError.
        """
        after = max(now_ms, self.log.current.created_ms + 1)
        try:
            check_quota(self.log.entries, after)
            verdict = check_next_operation(self.did, self.log.entries, operation, after)
        except ProtocolError as error:
            raise ServiceError(f"the operation would be refused: {error}") from error
        return verdict.signer

    def amend(self, key: PrivateKey, **parts: Any) -> Operation:
        """Return the next operation, signed with a key. Raises ServiceError."""
        try:
            return create_amendment(self.last, key, **parts)
        except ProtocolError as error:
            raise ServiceError(f"the operation is not valid: {error}") from error

    def with_new_key(self, old: str | None, new: str) -> list[str]:
        """Return the rotation keys with `new` in the place of `old`, or in front."""
        keys = list(self.state.rotation_keys)
        if old is not None:
            keys[keys.index(old)] = new
            return keys
        if len(keys) >= MAX_ROTATION_KEYS_SENT:
            raise ServiceError(
                f"{self.did} has {len(keys)} rotation keys already, the most there can"
                " be: rotate one of them by its own key"
            )
        return [new, *keys]


async def fetch_identity(config: Config, did: Did) -> PlcIdentity:
    """Return an identity from the directory, its log verified. Raises ServiceError."""
    log = await fetch_log(config, did)
    if isinstance(log.current.operation, Tombstone):
        raise ServiceError(f"{did} is tombstoned: its owner has ended the identity")
    return PlcIdentity(did, log)


async def fetch_log(config: Config, did: Did) -> AuditedLog:
    """Return the log of an identity, verified. Raises ServiceError."""
    _require_plc(did)
    async with make_fetcher(config) as fetcher:
        try:
            entries = await Directory(config.directory_url, fetcher).audit_log(did)
            return verify_audit_log(did, entries, tolerated=load_exceptions())
        except (XrpcError, ProtocolError) as error:
            raise ServiceError(f"{config.directory_url}: {error}") from error


async def submit(config: Config, did: Did, operation: Operation) -> None:
    """Submit an operation to the directory. Raises ServiceError."""
    async with make_fetcher(config) as fetcher:
        try:
            await Directory(config.directory_url, fetcher).submit(did, operation)
        except XrpcError as error:
            raise ServiceError(f"{config.directory_url}: {error}") from error


def read_operation(value: object) -> Operation:
    """Return the operation of a server's reply. Raises ServiceError."""
    try:
        operation = parse_operation(value)
    except ProtocolError as error:
        raise ServiceError(f"the server's operation is not valid: {error}") from error
    if not isinstance(operation, Operation):
        raise ServiceError("the server's operation ends the identity: not submitted")
    return operation


def now_ms() -> int:
    return time.time_ns() // _NS_PER_MS


def _require_plc(did: Did) -> None:
    if not is_plc_did(did):
        raise ServiceError(
            f"{did} is not a did:plc: its owner changes the document at its domain"
        )
