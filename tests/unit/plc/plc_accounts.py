"""Accounts to register in a directory, and their operations."""

from __future__ import annotations

from typing import Any

from plc.operation import LogEntry
from plc.operation_draft import create_genesis, create_update
from plc.operation_format import AnyOperation, LegacyCreate, Operation, operation_cid
from plc.operation_format import sign_operation as sign
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did

OWNER = PrivateKey.from_bytes("k256", b"\x51" * 32)
SERVER = PrivateKey.from_bytes("p256", b"\x52" * 32)
THIEF = PrivateKey.from_bytes("k256", b"\x53" * 32)
NOW = 1_790_000_000_000


def genesis(
    name: int | str = "alice.test", pds: str = "https://pds.example.com"
) -> tuple[Did, Operation]:
    return create_genesis(
        signing_key=SERVER.public.did_key,
        rotation_keys=[OWNER.public.did_key, SERVER.public.did_key],
        handle=name if isinstance(name, str) else f"n{name}.example.com",
        pds_url=pds,
        signer=SERVER,
    )


def legacy_create(signer: PrivateKey = SERVER) -> LegacyCreate:
    keys = SERVER.public.did_key, OWNER.public.did_key
    return sign(LegacyCreate(*keys, "bob.test", "pds.bob.test"), signer)


def entry(did: Did, operation: AnyOperation, created_ms: int) -> LogEntry:
    return LogEntry(did, operation, operation_cid(operation), False, created_ms)


def rename(last: Any, number: int, signer: PrivateKey = SERVER) -> Operation:
    return create_update(last, signer, handle=f"r{number}.example.com")
