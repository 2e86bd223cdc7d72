"""Processes of the shards of the live ingest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Final

import psycopg

from crawler.database import Database
from crawler.settings import CrawlSettings
from crawler.shards.shard import Shard
from crawler.shards.shard_wire import Woken
from service.index_sink import IndexSink
from service.runtime import logs
from service.runtime.garbage_collection import tune_gc
from storage.hosts.host_relays import has_relays
from storage.postgres import leases
from storage.postgres.pool import Conn, open_pool
from storage.records.interning import Interner

_POOL: Final = 4
_WATCH_EVERY: Final = 0.2


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """Settings of a shard, sent to its process; `make_sink` makes its sink."""

    settings: CrawlSettings
    url: str
    log_format: str = "console"
    log_level: str = "info"
    make_sink: Callable[..., IndexSink] = IndexSink

    def start(
        self, number: int, frames: socket.socket, control: socket.socket
    ) -> BaseProcess:
        """Start a shard's process; see `crawler.shards.shard_link.StartShard`."""
        # Processes fork from one without threads that has loaded this module.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        process = context.Process(
            target=_run_shard,
            args=(self, number, frames, control),
            name=f"shard-{number}",
            daemon=True,
        )
        process.start()
        return process


def _run_shard(
    plan: ShardPlan, number: int, frames: socket.socket, control: socket.socket
) -> None:
    # Ctrl-C reaches all processes of a terminal; the router stops the shards.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure(form=plan.log_format, level=plan.log_level)
    started = threading.Event()
    threading.Thread(target=_watch_router, args=(control, started), daemon=True).start()

    def hold(conn: Conn) -> None:
        # Another process may hold this shard: then our state is stale.
        if not leases.hold_shard(conn, number):
            raise psycopg.OperationalError(f"shard {number} already runs")
        conn.commit()
        # If the router is gone, a new crawler may run already, which did not wait for
        # this lock.
        _leave_if_abandoned(control)

    with (
        open_pool(plan.url, max=1, name="write", prepare=hold) as write,
        open_pool(plan.url, max=_POOL, name="side") as side,
        open_pool(plan.url, max=2, name="names") as names,
    ):
        database = Database(side)
        relayed = database.run(has_relays)

        def tell_written() -> None:
            shard.send(Woken(documents=True))

        sink = plan.make_sink(
            write,
            Interner(names),
            tell_written,
            rebroadcast=plan.settings.rebroadcast,
            shard=number,
        )
        shard = Shard(
            number, plan.settings, database, sink, frames, control, relayed=relayed
        )
        tune_gc()
        started.set()
        shard.run()


def is_abandoned(control: socket.socket) -> bool:
    """Return True if the router at the other end is gone."""
    try:
        return control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _leave_if_abandoned(control: socket.socket) -> None:
    if is_abandoned(control):
        os._exit(1)


def _watch_router(control: socket.socket, started: threading.Event) -> None:
    """Exit if the router goes while the shard starts, which may take long."""
    while not started.wait(_WATCH_EVERY):
        _leave_if_abandoned(control)
