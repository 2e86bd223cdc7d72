from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from plc import ledger
from plc.ledger import accept, export_after_seq, export_after_time, read_log
from plc.operation import (
    HOUR_MS,
    LogEntry,
    MisorderedOperationError,
    Operation,
    OutrankedError,
    QuotaExceededError,
    create_genesis,
    create_tombstone,
    create_update,
    operation_bytes,
    operation_cid,
    sign_operation,
    verify_audit_log,
)
from protocol.errors import LimitExceededError, ProtocolError
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did
from storage import migrate
from storage.postgres.pool import Pool

OWNER = PrivateKey.from_bytes("k256", b"\x31" * 32)
SERVER = PrivateKey.from_bytes("p256", b"\x32" * 32)
NOW = 1_790_000_000_000


def genesis(name: str = "alice.test") -> tuple[Did, Operation]:
    return create_genesis(
        signing_key=SERVER.public.did_key,
        rotation_keys=[OWNER.public.did_key, SERVER.public.did_key],
        handle=name,
        pds_url="https://pds.example.com",
        signer=SERVER,
    )


def take(pool: Pool, did: Did, operation: Any, now_ms: int = NOW) -> LogEntry:
    with pool.connection() as conn:
        return accept(conn, did, operation, now_ms).entry


def log_of(pool: Pool, did: Did, *, nullified: bool = True) -> list[LogEntry]:
    with pool.connection() as conn:
        return read_log(conn, did, nullified=nullified)


def test_tables_equal_their_migrations(plc_url: str) -> None:
    assert migrate.check(plc_url, "plc") == []


def test_what_is_taken_in_can_be_read(plc_pool: Pool) -> None:
    did, first = genesis()
    entry = take(plc_pool, did, first)
    assert entry == LogEntry(did, first, operation_cid(first), False, NOW)
    update = create_update(first, SERVER, handle="bob.test")
    take(plc_pool, did, update, NOW + 5)
    log = log_of(plc_pool, did)
    assert [e.operation for e in log] == [first, update]
    assert verify_audit_log(did, [e.to_json() for e in log]).current == log[-1]
    with plc_pool.connection() as conn:
        assert read_log(conn, "did:plc:" + "a" * 24) == []


def test_a_name_may_hold_any_character(plc_pool: Pool) -> None:
    did, first = genesis()
    update = create_update(first, OWNER)
    odd = Operation(
        rotation_keys=update.rotation_keys,
        verification_methods={},
        also_known_as=("at://\0\N{GRINNING FACE}",),
        services={},
        prev=operation_cid(first),
    )
    take(plc_pool, did, first)
    odd = sign_operation(odd, OWNER)
    take(plc_pool, did, odd, NOW + 1)
    assert log_of(plc_pool, did)[-1].operation == odd


def test_a_recovery_undoes_and_shows(plc_pool: Pool) -> None:
    did, first = genesis()
    take(plc_pool, did, first)
    stolen = create_update(first, SERVER, handle="thief.test")
    take(plc_pool, did, stolen, NOW + 1)
    grave = create_tombstone(stolen, SERVER)
    take(plc_pool, did, grave, NOW + 2)
    with pytest.raises(OutrankedError):
        take(plc_pool, did, create_update(first, SERVER), NOW + 3)
    rescue = create_update(first, OWNER, handle="back.test")
    take(plc_pool, did, rescue, NOW + 72 * HOUR_MS + 1)
    log = log_of(plc_pool, did)
    assert [e.nullified for e in log] == [False, True, True, False]
    verify_audit_log(did, [e.to_json() for e in log])
    assert [e.operation for e in log_of(plc_pool, did, nullified=False)] == [
        first,
        rescue,
    ]
    with pytest.raises(MisorderedOperationError):
        take(plc_pool, did, create_update(stolen, OWNER), NOW + 72 * HOUR_MS + 2)


def test_a_refused_operation_leaves_nothing(plc_pool: Pool) -> None:
    did, first = genesis()
    other, _ = genesis("other.test")
    with pytest.raises(ProtocolError):
        take(plc_pool, other, first)
    assert log_of(plc_pool, other) == []
    take(plc_pool, did, first)
    with pytest.raises(ProtocolError):
        take(plc_pool, did, create_update(create_update(first, OWNER), OWNER))
    assert len(log_of(plc_pool, did)) == 1


def test_limits_of_content_hold(plc_pool: Pool) -> None:
    did, first = genesis()
    take(plc_pool, did, first)
    names = tuple(f"at://{n}.test" for n in range(11))
    wide = replace(create_update(first, SERVER), also_known_as=names)
    with pytest.raises(LimitExceededError):
        take(plc_pool, did, sign_operation(wide, SERVER), NOW + 1)


def test_the_last_operation_may_be_sent_again(plc_pool: Pool) -> None:
    did, first = genesis()
    entry = take(plc_pool, did, first)
    assert take(plc_pool, did, first, NOW + 9) == entry
    update = create_update(first, SERVER)
    take(plc_pool, did, update, NOW + 10)
    with pytest.raises(MisorderedOperationError):
        take(plc_pool, did, first, NOW + 11)
    assert len(log_of(plc_pool, did)) == 2


def test_times_rise_whatever_the_clock_does(plc_pool: Pool) -> None:
    did, last = genesis()
    take(plc_pool, did, last)
    for now in (NOW, NOW - HOUR_MS, NOW + 1, NOW + 50):
        last = create_update(last, SERVER)
        take(plc_pool, did, last, now)
    times = [entry.created_ms - NOW for entry in log_of(plc_pool, did)]
    assert times == [0, 1, 2, 3, 50]


def test_quota_and_its_exception(plc_pool: Pool) -> None:
    did, first = genesis()
    take(plc_pool, did, first)
    last = first
    for number in range(1, 10):
        last = create_update(last, SERVER)
        take(plc_pool, did, last, NOW + number)
    with pytest.raises(QuotaExceededError):
        take(plc_pool, did, create_update(last, SERVER), NOW + 10)
    # Another account is not affected, and the owner may still undo it all.
    take(plc_pool, *genesis("other.test"))
    rescue = create_update(first, OWNER)
    take(plc_pool, did, rescue, NOW + 11)
    take(plc_pool, did, create_update(rescue, SERVER), NOW + 12)


def test_of_two_at_once_one_wins(plc_pool: Pool) -> None:
    for round_ in range(5):
        did, first = genesis(f"a{round_}.test")
        take(plc_pool, did, first)
        rivals = [create_update(first, SERVER, handle=f"r{n}.test") for n in range(6)]
        together = threading.Barrier(len(rivals))

        def attempt(
            rival: Operation, did: Did = did, together: threading.Barrier = together
        ) -> bool:
            together.wait()
            try:
                take(plc_pool, did, rival, NOW + 1)
            except ProtocolError:
                return False
            return True

        with ThreadPoolExecutor(len(rivals)) as threads:
            outcomes = list(threads.map(attempt, rivals))
        assert outcomes.count(True) == 1
        log = log_of(plc_pool, did)
        assert len(log) == 2
        assert log[1].operation == rivals[outcomes.index(True)]


def test_two_first_operations_at_once(plc_pool: Pool) -> None:
    did, first = genesis()
    with ThreadPoolExecutor(6) as threads:
        entries = list(threads.map(lambda _: take(plc_pool, did, first), range(6)))
    assert len(set(e.created_ms for e in entries)) == 1
    assert len(log_of(plc_pool, did)) == 1


def test_a_busy_did_does_not_hold_others_up(
    plc_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LOCK_TIMEOUT_MS", 100)
    did, first = genesis()
    with plc_pool.connection() as holder, holder.transaction():
        holder.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (ledger._DID_LOCK, did)
        )
        with pytest.raises(psycopg.errors.LockNotAvailable):
            take(plc_pool, did, first)
        take(plc_pool, *genesis("other.test"))
    take(plc_pool, did, first)


def test_a_reader_by_number_passes_nothing_over(plc_pool: Pool) -> None:
    """While writers race, a reader that pages by the last number it saw sees all."""
    accounts = [genesis(f"n{number}.test") for number in range(60)]
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
        list(writers.map(lambda account: take(plc_pool, *account), accounts))
    done.set()
    reader.join()
    assert sorted(seen) == sorted(did for did, _ in accounts)


@pytest.fixture
def crowded(plc_url: str) -> str:
    """5,000 operations of one timestamp, then one later."""
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


def test_no_operation_falls_between_pages(crowded: str) -> None:
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
def test_numbers_of_clients(text: str, number: int | None) -> None:
    assert ledger.parse_number(text) == number
