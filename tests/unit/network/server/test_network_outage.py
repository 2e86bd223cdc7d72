from __future__ import annotations

import asyncio
import errno
import json
import logging
import threading
import time

import psycopg
import pytest
from psycopg_pool import PoolTimeout
from starlette.requests import Request

from network.server import outage, readiness
from network.server.outage import AWAY, BUSY, DISK_FULL, outage_reason
from network.server.readiness import Readiness
from network.xrpc.error_reply import error_response


@pytest.fixture(autouse=True)
def _forget() -> None:
    outage._last_logged.clear()
    outage._last_full.clear()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "no space"), DISK_FULL),
        (psycopg.errors.DiskFull(), "the disk of the database is full"),
        (psycopg.errors.ReadOnlySqlTransaction(), "the database is read-only"),
        (psycopg.errors.AdminShutdown(), AWAY),
        (psycopg.OperationalError("server closed the connection"), AWAY),
        (PoolTimeout(), BUSY),
        (psycopg.errors.UndefinedTable(), None),
        (OSError(errno.ENOENT, "a bug"), None),
        (ValueError(), None),
    ],
)
def test_outage_reason_separates_outages_from_bugs(
    error: Exception, reason: str | None
) -> None:
    assert outage_reason(error) == reason
    response = error_response(error, "a.b.c")
    body = json.loads(bytes(response.body))
    if reason is None:
        assert response.status_code == 500
        return
    assert response.status_code == 503
    assert body == {"error": "ServiceUnavailable", "message": reason}
    assert int(response.headers["retry-after"]) > 0


def test_outage_logs_one_line_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(50):
            error_response(psycopg.errors.DiskFull("could not extend"), "a.b.c")
        assert [record.exc_info for record in caplog.records] == [None]
        error_response(ZeroDivisionError(), "a.b.c")
    assert caplog.records[1].exc_info is not None


async def ask(ready: Readiness) -> tuple[int, str]:
    response = await ready.serve(Request({"type": "http", "headers": []}))
    return response.status_code, json.loads(bytes(response.body)).get("message", "")


async def test_readiness_reports_the_reason() -> None:
    def check() -> None:
        raise psycopg.OperationalError("refused")

    assert await ask(Readiness(check)) == (503, AWAY)
    assert await ask(Readiness(lambda: None)) == (200, "")
    error_response(OSError(errno.ENOSPC, "full"), "a.b.c")
    assert await ask(Readiness(lambda: None)) == (503, DISK_FULL)


async def test_readiness_does_not_wait_for_a_hanging_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(readiness, "_KEEP_S", 0.0)
    release = threading.Event()
    calls: list[float] = []

    def check() -> None:
        calls.append(time.monotonic())
        release.wait(20)

    ready = Readiness(check)
    assert await ready.reason() == AWAY
    assert await ready.reason() == AWAY
    assert len(calls) == 1
    release.set()
    async with asyncio.timeout(20):
        while await ready.reason() is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
