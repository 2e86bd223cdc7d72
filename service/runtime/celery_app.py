"""The Celery application: short, bounded batches of unordered work.

The broker holds no state: a task claims its work from Postgres. A lost message costs
one interval, a duplicate costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.signals import setup_logging

from service.runtime.config import Config

QUEUE = "bigworld"

log = structlog.get_logger(__name__)

# An unacknowledged task is redelivered after this time.
_VISIBILITY_TIMEOUT_S = 600
# Enforced in the prefork pool; in the threads pool the tasks bound themselves.
TASK_LIMIT_S = 300

_DEATHS_ALLOWED = 10
_STEADY_S = 2.0
_PAUSE_S = 1.0


def _keep_our_logging(**_: Any) -> None:
    """Keep Celery from configuring the logs: a connected handler is enough."""


setup_logging.connect(_keep_our_logging)


def make_celery(broker_url: str, config: Config) -> Celery:
    """Return an application without tasks; `service.tasks.register` adds them."""
    app = Celery("bigworld", broker=broker_url, set_as_current=False)
    app.conf.update(
        # JSON only: a pickle is refused.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_time_limit=TASK_LIMIT_S,
        task_soft_time_limit=TASK_LIMIT_S - 30,
        task_default_queue=QUEUE,
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            # Otherwise the tasks of a killed worker wait for minutes.
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
        },
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        enable_utc=True,
        timezone="UTC",
        beat_schedule_filename=str(_schedule_file(config)),
    )
    return app


def schedule(app: Celery, intervals: Mapping[str, float]) -> None:
    """Run each named task at its interval in seconds.

    Messages expire after one interval, so that they never pile up.
    """
    app.conf.beat_schedule = {
        name: {
            "task": name,
            "schedule": seconds,
            "options": {"expires": max(seconds, 1.0), "queue": QUEUE},
        }
        for name, seconds in intervals.items()
    }


def run_worker(app: Celery, config: Config, *, beat: bool) -> int:
    """Run a worker until SIGTERM, with `beat` also the schedule; return the exit code.

    Celery's worker exits when the broker dies during a task: it is restarted, unless
    it exits again at once.
    """
    deaths = 0
    while True:
        began = time.monotonic()
        worker = app.Worker(
            pool="threads",
            concurrency=config.worker_threads,
            beat=beat,
            schedule_filename=str(_schedule_file(config)),
            loglevel=config.log_level.upper(),
            without_mingle=True,
            without_gossip=True,
        )
        worker.start()
        deaths = 1 if time.monotonic() - began > _STEADY_S else deaths + 1
        if not worker.exitcode or deaths >= _DEATHS_ALLOWED:
            return int(worker.exitcode or 0)
        log.warning("worker_restarted", deaths=deaths)
        time.sleep(_PAUSE_S)


def run_beat(app: Celery, config: Config) -> None:
    """Schedule the periodic tasks until SIGTERM; run one of these at a time."""
    app.Beat(schedule=str(_schedule_file(config)), quiet=True).run()


def _schedule_file(config: Config) -> Path:
    return config.home.absolute() / "celerybeat-schedule"
