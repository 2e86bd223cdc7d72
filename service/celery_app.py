"""The Celery application: short, bounded batches of work that needs no order.

Nothing true lives in the broker. A task claims its work from Postgres, so a lost
message costs one beat and a doubled one nothing.
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

# A task that is not acknowledged after this long is given to another worker.
_VISIBILITY_TIMEOUT_S = 600
# Hard limits hold in the prefork pool; in the threads pool the tasks bound themselves.
TASK_LIMIT_S = 300

_DEATHS_ALLOWED = 10
_STEADY_S = 2.0
_PAUSE_S = 1.0


def _keep_our_logging(**_: Any) -> None:
    """Being connected is enough: Celery then leaves the logging as it is."""


setup_logging.connect(_keep_our_logging)


def make_celery(broker_url: str, config: Config) -> Celery:
    """An application without tasks; `service.tasks.register` adds them."""
    app = Celery("bigworld", broker=broker_url, set_as_current=False)
    app.conf.update(
        # JSON only: a planted pickle is refused, not loaded.
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
            # Without these two the tasks of a killed worker wait minutes.
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
    """Run each named task every so many seconds.

    A message that waited for a whole interval is dropped: the next one does its work,
    so a worker that was away does not come back to a pile.
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
    """Work until SIGTERM; with `beat` also hand out the scheduled tasks.

    When the broker dies while a message is in work, Celery's worker dies of it: it
    then begins anew, unless it keeps dying as soon as it has begun.
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
        log.warning("worker_begins_anew", deaths=deaths)
        time.sleep(_PAUSE_S)


def run_beat(app: Celery, config: Config) -> None:
    """Hand out the scheduled tasks until SIGTERM; run one of these at a time."""
    app.Beat(schedule=str(_schedule_file(config)), quiet=True).run()


def _schedule_file(config: Config) -> Path:
    return config.home.absolute() / "celerybeat-schedule"
