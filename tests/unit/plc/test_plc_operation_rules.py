"""The rules of a did:plc log, and the verification of audit logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from plc_accounts import OWNER, SERVER, legacy_create
from plc_logs import (
    DID,
    GENESIS,
    GENESIS_CID,
    KEYS,
    MIDDLE,
    NAMES,
    START,
    STRONG,
    UNKNOWN,
    WEAK,
    WINDOW,
    Log,
    operation,
    started,
    with_high_s,
)

from plc.operation import (
    DAY_MS,
    HOUR_MS,
    GenesisHashError,
    InconsistentLogError,
    LateRecoveryError,
    LogEntry,
    MisorderedOperationError,
    OutrankedError,
    QuotaExceededError,
    check_next_operation,
    check_quota,
    format_time,
    parse_time,
    verify_audit_log,
)
from plc.operation_format import (
    Tombstone,
    did_for_genesis,
    operation_cid,
    sign_operation,
)
from protocol.errors import (
    InvalidSignatureError,
    InvalidSyntaxError,
    LimitExceededError,
    ProtocolError,
)
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did


def test_genesis_must_hash_to_the_did() -> None:
    verdict = check_next_operation(DID, [], GENESIS, START)
    assert (verdict.signer, verdict.nullified) == (NAMES[2], ())
    other = Did(DID[:-1] + ("a" if DID[-1] != "a" else "b"))
    with pytest.raises(GenesisHashError):
        check_next_operation(other, [], GENESIS, START)


def test_any_rotation_key_may_extend_a_log() -> None:
    log = started()
    first = log.add(operation(GENESIS_CID, STRONG), START + 1)
    log.add(operation(first, WEAK), START + 2)
    with pytest.raises(InvalidSignatureError):
        log.add(operation(log.entries[-1].cid, UNKNOWN), START + 3)
    assert verify_audit_log(DID, log.json()).current.cid == log.entries[-1].cid


def test_keys_of_the_previous_operation_apply() -> None:
    log = started()
    handed_over = log.add(
        operation(GENESIS_CID, WEAK, rotation_keys=(NAMES[3],)), START + 1
    )
    with pytest.raises(InvalidSignatureError):
        log.add(operation(handed_over, STRONG), START + 2)
    log.add(operation(handed_over, UNKNOWN), START + 2)


def test_log_without_rotation_keys_cannot_be_extended() -> None:
    log = started()
    last = log.add(operation(GENESIS_CID, rotation_keys=()), START + 1)
    for key in KEYS:
        with pytest.raises(InvalidSignatureError):
            log.add(operation(last, key), START + 2)
    # A stronger key may still fork before it.
    log.add(operation(GENESIS_CID, MIDDLE), START + 3)


def test_repeated_key_counts_by_its_first_position() -> None:
    keys = (NAMES[1], NAMES[0], NAMES[1])
    genesis = operation(None, MIDDLE, rotation_keys=keys)
    log = Log(did_for_genesis(genesis))
    first = log.add(genesis, START)
    log.add(operation(first, MIDDLE), START + 1)
    with pytest.raises(OutrankedError):
        log.add(operation(first, STRONG), START + 2)


@pytest.mark.parametrize(
    "prev", [None, "", "bafyreib", GENESIS_CID.upper(), "z" + GENESIS_CID[1:]]
)
def test_prev_must_be_an_operation_in_force(prev: str | None) -> None:
    with pytest.raises(MisorderedOperationError):
        started().add(operation(prev), START + 1)


def test_first_operation_must_not_have_a_prev() -> None:
    orphan = operation(GENESIS_CID)
    with pytest.raises(MisorderedOperationError):
        check_next_operation(did_for_genesis(orphan), [], orphan, START)
    with pytest.raises(MisorderedOperationError):
        check_next_operation(DID, [], Tombstone(GENESIS_CID), START)


@pytest.mark.parametrize("later", [0, -1])
def test_times_must_rise(later: int) -> None:
    with pytest.raises(MisorderedOperationError):
        started().add(operation(GENESIS_CID), START + later)


@pytest.mark.parametrize(("after_ms", "lives"), [(-1, True), (0, True), (1, False)])
def test_recovery_is_possible_within_72_hours(after_ms: int, lives: bool) -> None:
    log = started(START - 10 * DAY_MS)
    stolen = log.add(operation(GENESIS_CID, WEAK, also_known_as=()), START)
    rescue = operation(GENESIS_CID, MIDDLE)
    if not lives:
        with pytest.raises(LateRecoveryError):
            log.add(rescue, START + WINDOW + after_ms)
        return
    cid = log.add(rescue, START + WINDOW + after_ms)
    audited = verify_audit_log(DID, log.json())
    assert audited.current.cid == cid
    assert [e.nullified for e in audited.entries] == [False, True, False]
    with pytest.raises(MisorderedOperationError):
        log.add(operation(stolen, STRONG), START + WINDOW + 2)


def test_recovery_window_starts_at_the_first_undone_operation() -> None:
    log = started(START - DAY_MS)
    first = log.add(operation(GENESIS_CID, WEAK), START)
    log.add(operation(first, WEAK), START + WINDOW)
    with pytest.raises(LateRecoveryError):
        log.add(operation(GENESIS_CID, STRONG), START + WINDOW + 1)
    log.add(operation(first, STRONG), START + WINDOW + 1)


@pytest.mark.parametrize(
    ("signed_by", "forked_by"),
    [(s, f) for s in range(3) for f in range(4)],
)
def test_only_a_stronger_key_may_fork(signed_by: int, forked_by: int) -> None:
    log = started()
    log.add(operation(GENESIS_CID, KEYS[signed_by]), START + 1)
    fork = operation(GENESIS_CID, KEYS[forked_by], also_known_as=())
    if forked_by < signed_by:
        log.add(fork, START + 2)
    else:
        expected = InvalidSignatureError if forked_by == 3 else OutrankedError
        with pytest.raises(expected):
            log.add(fork, START + 2)


def test_fork_must_outrank_the_first_undone_operation() -> None:
    log = started()
    first = log.add(operation(GENESIS_CID, MIDDLE), START + 1)
    log.add(operation(first, WEAK), START + 2)
    with pytest.raises(OutrankedError):
        log.add(operation(GENESIS_CID, MIDDLE, also_known_as=()), START + 3)
    log.add(operation(first, MIDDLE), START + 3)


def test_nested_forks() -> None:
    log = started()
    a = log.add(operation(GENESIS_CID, WEAK), START + 1)
    b = log.add(operation(a, WEAK), START + 2)
    c = log.add(operation(b, WEAK), START + 3)
    log.add(operation(b, MIDDLE), START + 4)
    log.add(operation(a, STRONG), START + 5)
    last = log.add(operation(GENESIS_CID, MIDDLE), START + 6)
    audited = verify_audit_log(DID, log.json())
    assert [e.nullified for e in audited.entries] == [False, *[True] * 5, False]
    assert audited.current.cid == last
    for gone in (a, b, c):
        with pytest.raises(MisorderedOperationError):
            log.add(operation(gone, STRONG), START + 7)


def test_tombstone_ends_a_log_until_a_stronger_key_undoes_it() -> None:
    log = started()
    grave = log.add(sign_operation(Tombstone(GENESIS_CID), MIDDLE), START + 1)
    assert isinstance(verify_audit_log(DID, log.json()).current.operation, Tombstone)
    for key in KEYS:
        with pytest.raises(MisorderedOperationError):
            log.add(operation(grave, key), START + 2)
        with pytest.raises(MisorderedOperationError):
            log.add(sign_operation(Tombstone(grave), key), START + 2)
    with pytest.raises(OutrankedError):
        log.add(operation(GENESIS_CID, MIDDLE), START + 2)
    log.add(operation(GENESIS_CID, STRONG), START + 2)
    verify_audit_log(DID, log.json())


@pytest.mark.parametrize("signer", [OWNER, SERVER])
def test_legacy_log_starts_with_a_create_operation(signer: PrivateKey) -> None:
    create = legacy_create(signer)
    log = Log(did_for_genesis(create))
    first = log.add(create, START)
    # The recovery key is the stronger of the two.
    log.add(operation(first, SERVER), START + 1)
    log.add(operation(first, OWNER), START + 2)
    verify_audit_log(log.did, log.json())
    with pytest.raises(MisorderedOperationError):
        log.add(create, START + 3)


def history(*ages_ms: int, nullified: bool = False) -> list[LogEntry]:
    return [LogEntry(DID, GENESIS, "", nullified, START - age) for age in ages_ms]


@pytest.mark.parametrize(
    ("limit", "window"), [(10, HOUR_MS), (30, DAY_MS), (100, 7 * DAY_MS)]
)
def test_quota_of_a_did(limit: int, window: int) -> None:
    full = history(*[window - 1] * limit)
    with pytest.raises(QuotaExceededError):
        check_quota(full, START)
    check_quota(full[1:], START)
    check_quota(full, START + 1)
    check_quota(history(*[0] * limit, nullified=True), START)


@pytest.mark.parametrize(
    "text",
    [
        "2026-08-01T12:00:00Z",
        "2026-08-01T12:00:00.0000Z",
        "2026-08-01T12:00:00.000+00:00",
        "2026-08-01 12:00:00.000Z",
        "2026-02-30T12:00:00.000Z",
        "",
    ],
)
def test_parse_time_accepts_one_form(text: str) -> None:
    with pytest.raises(InvalidSyntaxError):
        parse_time(text)
    assert format_time(START) == "2026-08-01T12:00:00.000Z"


def forked_log() -> Log:
    log = started()
    log.add(operation(GENESIS_CID, WEAK), START + 1)
    second = log.add(operation(GENESIS_CID, STRONG), START + 2)
    log.add(operation(second, WEAK, also_known_as=()), START + 3)
    return log


def change(index: int, **fields: object) -> Callable[[list[Any]], object]:
    return lambda entries: entries[index].update(fields)


def change_operation(index: int, **fields: object) -> Callable[[list[Any]], object]:
    return lambda entries: entries[index]["operation"].update(fields)


LIES: dict[str, Callable[[list[Any]], object]] = {
    "nothing": lambda e: e.clear(),
    "first left out": lambda e: e.pop(0),
    "middle left out": lambda e: e.pop(2),
    "swapped": lambda e: e.insert(1, e.pop(2)),
    "twice": lambda e: e.append(e[-1]),
    "first twice": lambda e: e.insert(1, e[0]),
    "an entry of another type": lambda e: e.append("x"),
    "did": change(3, did="did:plc:" + "a" * 24),
    "cid of another entry": change(3, cid=GENESIS_CID),
    "cid of nothing": change(3, cid=GENESIS_CID[:-1] + "a"),
    "no cid": change(3, cid=None),
    "nullified set": change(3, nullified=True),
    "nullified cleared": change(1, nullified=False),
    "nullified both": change(2, nullified=True),
    "nullified a number": change(1, nullified=1),
    "time falls": change(2, createdAt=format_time(START)),
    "time stands": change(3, createdAt=format_time(START + 2)),
    "time too late": change(2, createdAt=format_time(START + 2 + WINDOW)),
    "time in another form": change(2, createdAt="2026-08-01T12:00:00Z"),
    "time a number": change(2, createdAt=START + 2),
    "operation": change(3, operation={}),
    "prev": change_operation(3, prev=GENESIS_CID),
    "handle": change_operation(3, alsoKnownAs=["at://evil.test"]),
    "keys": change_operation(3, rotationKeys=[NAMES[3]]),
    "endpoint": change_operation(3, services={}),
    "signature": change_operation(3, sig=GENESIS.sig),
    "first operation": change_operation(0, alsoKnownAs=["at://evil.test"]),
}


@pytest.mark.parametrize("name", LIES)
def test_false_audit_log_is_refused(name: str) -> None:
    entries = forked_log().json()
    verify_audit_log(DID, entries)
    LIES[name](entries)
    with pytest.raises(ProtocolError):
        verify_audit_log(DID, entries)


@pytest.mark.parametrize("index", [1, 3])
def test_missing_final_or_nullified_entry_goes_unnoticed(index: int) -> None:
    entries = forked_log().json()
    del entries[index]
    verify_audit_log(DID, entries)


def test_audit_log_of_another_did_is_refused() -> None:
    with pytest.raises(InconsistentLogError):
        verify_audit_log(Did("did:plc:" + "a" * 24), forked_log().json())


def test_long_audit_log_is_refused() -> None:
    with pytest.raises(LimitExceededError):
        verify_audit_log(DID, [{}] * 10_001)


def test_tolerated_operation_is_the_weakest() -> None:
    log = started()
    bad = operation(GENESIS_CID, WEAK)
    bad = replace(bad, sig=with_high_s(bad.sig, WEAK))
    cid = operation_cid(bad)
    entries = [*log.json(), LogEntry(DID, bad, cid, False, START + 1).to_json()]
    with pytest.raises(InvalidSignatureError):
        verify_audit_log(DID, entries)
    audited = verify_audit_log(DID, entries, tolerated={cid})
    assert audited.tolerated == (cid,)
    # Any rotation key may undo it at any time, and it undoes nothing.
    rescue = operation(GENESIS_CID, WEAK, also_known_as=())
    entries[1]["nullified"] = True
    for later in (2, 73 * HOUR_MS):
        undoing = LogEntry(DID, rescue, operation_cid(rescue), False, START + later)
        verify_audit_log(DID, [*entries, undoing.to_json()], tolerated={cid})
    forged = [
        log.json()[0],
        LogEntry(DID, rescue, operation_cid(rescue), True, START + 1).to_json(),
        LogEntry(DID, bad, cid, False, START + 2).to_json(),
    ]
    with pytest.raises(OutrankedError):
        verify_audit_log(DID, forged, tolerated={cid})
