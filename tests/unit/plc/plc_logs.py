"""Operations by four rotation keys, and a log that enforces the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plc.operation import HOUR_MS, LogEntry, check_next_operation, parse_time
from plc.operation_format import (
    AnyOperation,
    Operation,
    PlcService,
    did_for_genesis,
    operation_cid,
    sign_operation,
)
from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.identity.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.syntax import Did

KEYS = tuple(
    PrivateKey.from_bytes("p256" if n % 2 else "k256", bytes([n + 1]) * 32)
    for n in range(4)
)
STRONG, MIDDLE, WEAK, UNKNOWN = KEYS
NAMES = tuple(key.public.did_key for key in KEYS)
START = parse_time("2026-08-01T12:00:00.000Z")
WINDOW = 72 * HOUR_MS


def operation(
    prev: str | None, signer: PrivateKey = WEAK, **changes: object
) -> Operation:
    fields: dict[str, Any] = {
        "rotation_keys": NAMES[:3],
        "verification_methods": {"atproto": NAMES[3]},
        "also_known_as": ("at://alice.test",),
        "services": {
            "atproto_pds": PlcService("AtprotoPersonalDataServer", "https://a.test")
        },
        "prev": prev,
    }
    return sign_operation(Operation(**(fields | changes)), signer)


GENESIS = operation(None)
DID = did_for_genesis(GENESIS)
GENESIS_CID = operation_cid(GENESIS)


class Log:
    """A log that appends the operations that the rules accept."""

    def __init__(self, did: Did = DID) -> None:
        self.did = did
        self.entries: list[LogEntry] = []

    def add(self, proposed: AnyOperation, at: int) -> str:
        verdict = check_next_operation(self.did, self.entries, proposed, at)
        self.entries = [
            replace(entry, nullified=entry.nullified or entry.cid in verdict.nullified)
            for entry in self.entries
        ]
        entry = LogEntry(self.did, proposed, verdict.cid, False, at)
        self.entries.append(entry)
        return verdict.cid

    def json(self) -> list[dict[str, Any]]:
        return [entry.to_json() for entry in self.entries]


def started(at: int = START) -> Log:
    log = Log()
    log.add(GENESIS, at)
    return log


def with_high_s(text: str, key: PrivateKey) -> str:
    """Return the other text of a signature, which only lenient verifiers accept."""
    raw = decode_base64url(text)
    order = K256_ORDER if key.curve == "k256" else P256_ORDER
    s = order - int.from_bytes(raw[32:], "big")
    return encode_base64url(raw[:32] + s.to_bytes(32, "big"))
