"""The Celery application on a real broker: JSON only, crash-safe, expiring messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker

from service.runtime.celery_app import QUEUE, make_celery, schedule
from service.runtime.config import Config
from service.runtime.embedded import EmbeddedValkey


@pytest.fixture
def app(valkey_server: EmbeddedValkey, tmp_path: Path) -> Iterator[Celery]:
    with redis.Redis.from_url(valkey_server.url()) as client:
        client.flushall()
    made = make_celery(valkey_server.celery_url(), Config.read(home=tmp_path))
    yield made
    made.close()


def test_celery_settings_survive_a_crash(app: Celery) -> None:
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_ignore_result
    assert app.conf.task_time_limit > app.conf.task_soft_time_limit > 0
    options = app.conf.broker_transport_options
    assert options["unacked_restore_interval"] == 2
    assert options["unacked_restore_throttle"] == 1


def test_schedule_expires_with_its_interval(app: Celery) -> None:
    schedule(app, {"work": 30.0})
    entry = app.conf.beat_schedule["work"]
    assert entry["task"] == "work"
    assert entry["options"]["expires"] == 30.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_celery_refuses_a_pickle(app: Celery) -> None:
    ran: list[object] = []
    done = threading.Event()

    @app.task(name="note")
    def note(value: object) -> None:
        ran.append(value)
        if value == "last":
            done.set()

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=10):
        app.send_task("note", ("first",), queue=QUEUE)
        app.send_task("note", ("pickled",), queue=QUEUE, serializer="pickle")
        time.sleep(0.5)
        app.send_task("note", ("last",), queue=QUEUE)
        assert done.wait(10)
    assert ran == ["first", "last"]
