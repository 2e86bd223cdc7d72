from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from plc_accounts import NOW, OWNER, SERVER, entry, genesis

from plc import ledger
from plc.ledger import accept, export_after_seq, export_after_time, read_log
from plc.operation import (
    HOUR_MS,
    LogEntry,
    MisorderedOperationError,
    OutrankedError,
    QuotaExceededError,
    verify_audit_log,
)
from plc.operation_draft import create_tombstone, create_update
from plc.operation_format import (
    Operation,
    operation_bytes,
    sign_operation,
)
from protocol.errors import LimitExceededError, ProtocolError
from protocol.syntax import Did
from storage import migrate
from storage.postgres.pool import Pool


def accept_one(pool: Pool, did: Did, operation: Any, now_ms: int = NOW) -> LogEntry:
    with pool.connection() as conn:
        return accept(conn, did, operation, now_ms).entry


def log_of(pool: Pool, did: Did, *, nullified: bool = True) -> list[LogEntry]:
    with pool.connection() as conn:
        return read_log(conn, did, nullified=nullified)


def test_ledger_tables_match_their_migrations(plc_url: str) -> None:
    assert migrate.check(plc_url, "plc") == []


def test_ledger_reads_accepted_operations(plc_pool: Pool) -> None:
    did, first = genesis()
    assert accept_one(plc_pool, did, first) == entry(did, first, NOW)
    update = create_update(first, SERVER, handle="bob.test")
    accept_one(plc_pool, did, update, NOW + 5)
    log = log_of(plc_pool, did)
    assert [e.operation for e in log] == [first, update]
    assert verify_audit_log(did, [e.to_json() for e in log]).current == log[-1]
    with plc_pool.connection() as conn:
        assert read_log(conn, "did:plc:" + "a" * 24) == []


def test_ledger_keeps_any_character_of_a_name(plc_pool: Pool) -> None:
    did, first = genesis()
    update = create_update(first, OWNER)
    odd = replace(update, also_known_as=("at://\0\N{GRINNING FACE}",))
    accept_one(plc_pool, did, first)
    odd = sign_operation(odd, OWNER)
    accept_one(plc_pool, did, odd, NOW + 1)
    assert log_of(plc_pool, did)[-1].operation == odd


def test_ledger_nullifies_operations_undone_by_a_recovery(plc_pool: Pool) -> None:
    did, first = genesis()
    accept_one(plc_pool, did, first)
    stolen = create_update(first, SERVER, handle="thief.test")
    accept_one(plc_pool, did, stolen, NOW + 1)
    grave = create_tombstone(stolen, SERVER)
    accept_one(plc_pool, did, grave, NOW + 2)
    with pytest.raises(OutrankedError):
        accept_one(plc_pool, did, create_update(first, SERVER), NOW + 3)
    rescue = create_update(first, OWNER, handle="back.test")
    accept_one(plc_pool, did, rescue, NOW + 72 * HOUR_MS + 1)
    log = log_of(plc_pool, did)
    assert [e.nullified for e in log] == [False, True, True, False]
    verify_audit_log(did, [e.to_json() for e in log])
    standing = log_of(plc_pool, did, nullified=False)
    assert [e.operation for e in standing] == [first, rescue]
    with pytest.raises(MisorderedOperationError):
        accept_one(plc_pool, did, create_update(stolen, OWNER), NOW + 72 * HOUR_MS + 2)


def test_ledger_keeps_nothing_of_a_refused_operation(plc_pool: Pool) -> None:
    did, first = genesis()
    other, _ = genesis("other.test")
    with pytest.raises(ProtocolError):
        accept_one(plc_pool, other, first)
    assert log_of(plc_pool, other) == []
    accept_one(plc_pool, did, first)
    with pytest.raises(ProtocolError):
        accept_one(plc_pool, did, create_update(create_update(first, OWNER), OWNER))
    assert len(log_of(plc_pool, did)) == 1


def test_ledger_enforces_content_limits(plc_pool: Pool) -> None:
    did, first = genesis()
    accept_one(plc_pool, did, first)
    names = tuple(f"at://{n}.test" for n in range(11))
    wide = replace(create_update(first, SERVER), also_known_as=names)
    with pytest.raises(LimitExceededError):
        accept_one(plc_pool, did, sign_operation(wide, SERVER), NOW + 1)


def test_ledger_accepts_the_last_operation_again(plc_pool: Pool) -> None:
    did, first = genesis()
    accepted = accept_one(plc_pool, did, first)
    assert accept_one(plc_pool, did, first, NOW + 9) == accepted
    update = create_update(first, SERVER)
    accept_one(plc_pool, did, update, NOW + 10)
    with pytest.raises(MisorderedOperationError):
        accept_one(plc_pool, did, first, NOW + 11)
    assert len(log_of(plc_pool, did)) == 2


def test_ledger_times_rise_when_the_clock_is_set_back(plc_pool: Pool) -> None:
    did, last = genesis()
    accept_one(plc_pool, did, last)
    for now in (NOW, NOW - HOUR_MS, NOW + 1, NOW + 50):
        last = create_update(last, SERVER)
        accept_one(plc_pool, did, last, now)
    times = [entry.created_ms - NOW for entry in log_of(plc_pool, did)]
    assert times == [0, 1, 2, 3, 50]


def test_ledger_quota_exempts_recoveries(plc_pool: Pool) -> None:
    did, first = genesis()
    accept_one(plc_pool, did, first)
    last = first
    for number in range(1, 10):
        last = create_update(last, SERVER)
        accept_one(plc_pool, did, last, NOW + number)
    with pytest.raises(QuotaExceededError):
        accept_one(plc_pool, did, create_update(last, SERVER), NOW + 10)
    # Other accounts and recoveries are not affected.
    accept_one(plc_pool, *genesis("other.test"))
    rescue = create_update(first, OWNER)
    accept_one(plc_pool, did, rescue, NOW + 11)
    accept_one(plc_pool, did, create_update(rescue, SERVER), NOW + 12)


def test_ledger_accepts_one_of_concurrent_operations(plc_pool: Pool) -> None:
    for round_ in range(5):
        did, first = genesis(round_)
        accept_one(plc_pool, did, first)
        rivals = [create_update(first, SERVER, handle=f"r{n}.test") for n in range(6)]
        together = threading.Barrier(len(rivals))

        def attempt(
            rival: Operation, did: Did = did, together: threading.Barrier = together
        ) -> bool:
            together.wait()
            try:
                accept_one(plc_pool, did, rival, NOW + 1)
            except ProtocolError:
                return False
            return True

        with ThreadPoolExecutor(len(rivals)) as threads:
            outcomes = list(threads.map(attempt, rivals))
        assert outcomes.count(True) == 1
        log = log_of(plc_pool, did)
        assert len(log) == 2
        assert log[1].operation == rivals[outcomes.index(True)]


def test_ledger_accepts_concurrent_genesis_once(plc_pool: Pool) -> None:
    did, first = genesis()
    with ThreadPoolExecutor(6) as threads:
        entries = list(
            threads.map(lambda _: accept_one(plc_pool, did, first), range(6))
        )
    assert len(set(e.created_ms for e in entries)) == 1
    assert len(log_of(plc_pool, did)) == 1


def test_locked_did_does_not_block_other_dids(
    plc_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LOCK_TIMEOUT_MS", 100)
    did, first = genesis()
    with plc_pool.connection() as holder, holder.transaction():
        holder.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (ledger._DID_LOCK, did)
        )
        with pytest.raises(psycopg.errors.LockNotAvailable):
            accept_one(plc_pool, did, first)
        accept_one(plc_pool, *genesis("other.test"))
    accept_one(plc_pool, did, first)


def test_reader_by_number_misses_nothing_while_writers_race(plc_pool: Pool) -> None:
    accounts = [genesis(number) for number in range(60)]
    seen: list[Did] = []
    done = threading.Event()

    def read() -> None:
        position = 0
        with plc_pool.connection() as conn:
            conn.autocommit = True
            try:
                while True:
                    last_look = done.is_set()
                    for row in export_after_seq(conn, position, 7):
                        seen.append(row.entry.did)
                        position = row.seq
                        last_look = False
                    if last_look:
                        return
            finally:
                conn.autocommit = False

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(6) as writers:
        list(writers.map(lambda account: accept_one(plc_pool, *account), accounts))
    done.set()
    reader.join()
    assert sorted(seen) == sorted(did for did, _ in accounts)


@pytest.fixture
def crowded(plc_url: str) -> str:
    """Return a database with 5,000 operations of one time, then a later one."""
    did, first = genesis()
    value = operation_bytes(first)
    with psycopg.connect(plc_url) as conn:
        conn.execute(
            "INSERT INTO operation (did, value, created_ms)"
            " SELECT %s, %s, CASE WHEN n > 5000 THEN %s ELSE %s END"
            " FROM generate_series(1, 5001) n",
            (did, value, NOW + 1, NOW),
        )
    return plc_url


def test_export_pages_lose_no_operation(crowded: str) -> None:
    with psycopg.connect(crowded) as conn:
        numbers: list[int] = []
        while True:
            page = export_after_seq(conn, numbers[-1] if numbers else 0, 1_000)
            if not page:
                break
            numbers += [row.seq for row in page]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 5_001

        times: list[int] = []
        while True:
            by_time = export_after_time(conn, times[-1] if times else None, 1_000)
            if not by_time:
                break
            times += [entry.created_ms for entry in by_time]
        assert len(times) == 5_001
        assert times == sorted(times)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("17", 17),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1.0", None),
        ("١", None),
        ("²", None),
    ],
)
def test_parse_number(text: str, number: int | None) -> None:
    assert ledger.parse_number(text) == number
