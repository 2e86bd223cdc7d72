"""`up` during its start: interrupts, refusals, retries. Starts no server."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
from pathlib import Path

import pytest
from rich.console import Console

from demo import seeding
from network.errors import RateLimitedError, XrpcError
from service import up
from service.cli.progress import Report
from service.monitoring.target_check import find_unreachable
from service.operator_errors import SeedingError, ServiceError
from service.runtime.config import Config


class Start:
    """A run of `up` that has not started."""

    def __init__(self, home: Path) -> None:
        self.output = io.StringIO()
        self.run = up._Run(
            Config(home=home), Report(Console(file=self.output)), is_demo=True
        )


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


def test_first_interrupt_aborts_a_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[bool] = []

    def start_stores(_: object) -> dict[object, str]:
        entered.append(True)
        # As the handler of Ctrl-C does.
        start.run.interrupt()
        raise AssertionError("it went on")

    monkeypatch.setattr(start.run, "_start_stores", start_stores)
    start.run.run()
    assert entered
    told = start.output.getvalue().splitlines()
    assert told[0] == "stopping (Ctrl-C again kills)"
    assert told[1].startswith("stopped; the data stay")
    assert start.run._patience() is not None


def test_second_interrupt_kills(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    start.run._is_ready = True
    start.run.interrupt()
    assert codes == []
    start.run.interrupt()
    assert codes == [130]
    assert "killed" in start.output.getvalue()


def test_both_signals_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(up, "_check_ports", lambda *_, **__: None)

    def begin(run: up._Run) -> None:
        for number in kept:
            with pytest.raises(up._StoppedError):
                signal.raise_signal(number)
            run._stop.clear()

    monkeypatch.setattr(up._Run, "run", begin)
    try:
        up.run(Config(home=tmp_path), Console(file=io.StringIO()))
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def test_failed_seeding_is_retried(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "_FIRST_PAUSE_S", 0.0)
    failures = [SeedingError("not filled yet: no answer"), SeedingError("nor now")]

    def work() -> str:
        if failures:
            raise failures.pop(0)
        return "filled"

    assert start.run._with_retries(work) == "filled"
    told = start.output.getvalue()
    assert "not filled yet: no answer; next try in 0 s" in told
    assert "nor now" in told


def test_seeding_obeys_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    said: list[str] = []
    answers: list[object] = [RateLimitedError("too many", 7.0)] * 9
    pause = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await pause(0)

    async def call() -> str:
        if answers:
            raise answers.pop()  # type: ignore[misc]
        return "done"

    monkeypatch.setattr(seeding.asyncio, "sleep", sleep)
    assert asyncio.run(seeding._with_retries(call, said.append)) == "done"
    assert waited == [7.0] * 9
    assert said[0] == "too many: retrying in 7 s"


def test_seeding_retries_server_errors_only() -> None:
    assert seeding._describe("x", XrpcError("Oops", "", 502)).may_retry
    refusal = seeding._describe("x", XrpcError("InvalidRecord", "no", 400))
    assert not refusal.may_retry
    assert "BIGWORLD_HOME" in str(refusal)


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} .*--port-base"):
            up._check_ports(Config(home=tmp_path, port_base=port), is_demo=False)


def test_unreachable_targets_are_named(tmp_path: Path) -> None:
    nobody = "http://localhost:1"
    config = Config(
        home=tmp_path,
        dev_network=True,
        plc_url=nobody,
        hosts=(nobody,),
        relays=(nobody,),
    )
    directory, pds, relay = find_unreachable(config)
    assert directory.startswith(f"the PLC directory {nobody} does not answer")
    assert pds.startswith(f"{nobody} does not answer as a PDS")
    assert relay.startswith(f"{nobody} does not answer as a relay")
    assert all("\n" not in line for line in (directory, pds, relay))
