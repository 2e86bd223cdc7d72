"""Batches, retries and poison, with a sink that fails as told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from crawler.database import Database, StoppedError, is_transient
from crawler.hosts.host_name import HostName
from crawler.live import pipeline as pipeline_module
from crawler.live.gate_result import GateResult, ResetHost
from crawler.live.pipeline import Pipeline
from crawler.live.stream_state import Arrival, StreamState
from crawler.settings import CrawlSettings
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, Event
from protocol.syntax.did import Did
from storage import cursors
from storage.hosts import host_rows
from storage.postgres.pool import Pool


@dataclass
class _Applied:
    applied: int
    desynchronized: Sequence[Did] = ()


@dataclass
class _Sink:
    """Fails for one event, or a number of times; remembers the rest."""

    pool: Pool
    poison: str = ""
    failures: int = 0
    error: Exception = field(default_factory=lambda: psycopg.OperationalError("away"))
    slow: float = 0.0
    events: list[Event] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def apply(self, events: Sequence[Event], marks: Mapping[int, int]) -> _Applied:
        time.sleep(self.slow)
        if self.failures:
            self.failures -= 1
            raise self.error
        if any(event.did == self.poison for event in events):
            raise ValueError("poison")
        with self.pool.connection() as conn:
            cursors.save_cursors(conn, marks)
        self.events += events
        self.batches.append(len(events))
        return _Applied(len(events))

    def checkout(self, did: Did, host: int) -> Any:
        raise NotImplementedError

    def update_repo(self, *_: Any) -> bool:
        raise NotImplementedError

    def import_repos(self, repos: Any) -> Any:
        raise NotImplementedError

    def set_handle(self, did: Did, handle: Any) -> None:
        raise NotImplementedError


class _Gate:
    """Every frame is an event whose DID is the frame's text."""

    def take(self, arrivals: Sequence[Arrival | ResetHost]) -> GateResult:
        passed = GateResult()
        for arrival in arrivals:
            if isinstance(arrival, ResetHost):
                passed.resets[arrival.host] = arrival.behind
                passed.marks.clear()
                continue
            assert arrival.raw is not None
            stream = arrival.stream
            stream.last_seq += 1
            stream.handled += 1
            passed.handled[stream.host] += 1
            passed.marks[stream.host] = stream.last_seq
            if arrival.raw == b"bad":
                passed.drops[DropReason.BAD_SIGNATURE, stream.host] += 1
                continue
            passed.events.append(
                AccountEvent(
                    Did(arrival.raw.decode()), True, None, stream.last_seq, stream.host
                )
            )
        return passed


@dataclass
class _Line:
    """A pipeline on one stream."""

    pool: Pool
    sink: _Sink
    settings: CrawlSettings

    def __post_init__(self) -> None:
        with self.pool.connection() as conn:
            self.host, _ = host_rows.put_host(
                conn, "a.example.com", "https://a.example.com", source="configured"
            )
        self.database = Database(self.pool, retry_cap=0.05)
        self.stream = StreamState(self.host, HostName("a.example.com"))
        self.pipeline = Pipeline(
            self.settings,
            self.database,
            self.sink,
            _Gate(),  # type: ignore[arg-type]
        )
        self.pipeline.add_stream(self.stream)

    def run(self, *frames: bytes, reset_after: int = 0) -> None:
        async def put() -> None:
            for raw in frames:
                await self.pipeline.put(self.stream, raw)
            if reset_after:
                while self.stream.handled < reset_after:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await self.pipeline.reset(self.host)

        self.pipeline.start()
        asyncio.run(put())
        self.pipeline.stop()

    def cursor(self) -> int | None:
        with self.pool.connection() as conn:
            return cursors.load_cursor(conn, self.host)

    def query(self, sql: str) -> list[Any]:
        with self.pool.connection() as conn:
            return conn.execute(sql).fetchall()  # type: ignore[arg-type]


@pytest.fixture
def line(pool: Pool) -> _Line:
    return _Line(pool, _Sink(pool), CrawlSettings(batch_events=10, flush_interval=0.05))


def names(count: int) -> list[bytes]:
    return [f"did:plc:{n:a>24}".encode() for n in range(count)]


def test_batches_are_bounded_and_in_order(line: _Line) -> None:
    line.run(*names(500), b"bad")
    assert [event.did.encode() for event in line.sink.events] == names(500)
    # A round of frames is not cut, so a batch is at most one round longer.
    assert max(line.sink.batches) <= 10 + 256
    assert line.cursor() == 501
    assert line.query("SELECT reason, host, n FROM drop_count") == [
        ("bad_signature", line.host, 1)
    ]
    assert line.query("SELECT events, strikes FROM host") == [(501, 1)]


def test_batches_of_large_frames_are_shorter(
    line: _Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "_BYTES_A_ROUND", 320)
    monkeypatch.setattr(pipeline_module, "_BATCH_BYTES", 640)
    line.settings = CrawlSettings(batch_events=500, flush_interval=0.05)
    line.__post_init__()
    line.sink.slow = 0.05
    line.run(*names(200))
    assert [event.did.encode() for event in line.sink.events] == names(200)
    assert len(names(1)[0]) == 32
    # Frames of two rounds.
    assert max(line.sink.batches) <= 20


def test_flooding_host_delays_only_itself(line: _Line) -> None:
    with line.pool.connection() as conn:
        host, _ = host_rows.put_host(
            conn, "b.example.com", "https://b.example.com", source="configured"
        )
    other = StreamState(host, HostName("b.example.com"))
    line.pipeline.add_stream(other)
    flood, quiet = names(2_000), b"did:plc:quiet"

    async def put() -> None:
        for raw in flood:
            await line.pipeline.put(line.stream, raw)
        await line.pipeline.put(other, quiet)

    asyncio.run(put())
    line.run()
    found = [event.did.encode() for event in line.sink.events]
    assert sorted(found) == sorted([*flood, quiet])
    assert found.index(quiet) < 256, "not in the first round"


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("server closed the connection"),
        psycopg.errors.DeadlockDetected(),
        psycopg.errors.SerializationFailure(),
        psycopg.errors.DiskFull(),
    ],
)
def test_pipeline_survives_an_unreachable_database(
    line: _Line, error: Exception
) -> None:
    line.sink.failures, line.sink.error = 5, error
    line.run(*names(30))
    assert [event.did.encode() for event in line.sink.events] == names(30)
    assert line.cursor() == 30


def test_failing_event_is_quarantined_and_others_are_applied(line: _Line) -> None:
    frames = names(40)
    line.sink.poison = frames[17].decode()
    line.run(*frames)
    assert [event.did.encode() for event in line.sink.events] == [
        *frames[:17],
        *frames[18:],
    ]
    assert line.cursor() == 40
    assert line.query("SELECT host, seq FROM quarantined_frame") == [(line.host, 18)]
    assert line.query("SELECT reason FROM drop_count") == [("quarantined",)]


def test_is_transient_refuses_program_limits() -> None:
    assert is_transient(psycopg.errors.DeadlockDetected())
    assert is_transient(psycopg.OperationalError())
    assert not is_transient(psycopg.errors.ProgramLimitExceeded())
    assert not is_transient(psycopg.errors.UniqueViolation())
    assert not is_transient(ValueError())


def test_a_slow_database_stops_the_reader(pool: Pool) -> None:
    settings = CrawlSettings(batch_events=5, queue_bytes=2_000, flush_interval=0.05)
    line = _Line(pool, _Sink(pool, slow=0.05), settings)
    highest = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, line.pipeline.queued_bytes)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    line.run(*names(3_000))
    done.set()
    watcher.join()
    assert len(line.sink.events) == 3_000
    assert 0 < highest <= 2_000


def test_a_reset_forgets_the_cursor_for_good(line: _Line) -> None:
    line.run(*names(20), reset_after=20)
    assert line.cursor() is None


def test_work_is_given_up_only_at_a_stop(pool: Pool) -> None:
    database = Database(pool, retry_cap=0.01)
    calls = 0

    def fail(_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            database.stop()
        raise psycopg.OperationalError

    with pytest.raises(StoppedError):
        database.run(fail)
    assert calls >= 5
    assert not database.healthy
    patient = Database(pool, retry_cap=0.01, most_tries=3)
    calls = 0
    with pytest.raises(psycopg.OperationalError):
        patient.run(fail)
    assert calls == 3
    assert Database(pool).run(lambda conn: conn.execute("SELECT 1").fetchone()) == (1,)
