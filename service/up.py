"""`bigworld up`: a whole network under one command.

Starts PostgreSQL and Valkey, migrates, then runs every server as a child process. The
demo network is seeded once. Ctrl-C stops everything and keeps the data.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr
from rich.console import Console

from network.errors import NetworkError
from service import demo_network
from service.cli.progress import Report
from service.cli.running import forget_running, note_running
from service.monitoring.target_check import find_unreachable
from service.operator_errors import SeedingError, ServiceError
from service.runtime.config import Config
from service.runtime.crawl_settings import check_targets
from service.runtime.databases import (
    INDEX,
    PDS,
    PLC,
    PRIVATE,
    Database,
    embedded_postgres,
    embedded_valkey,
    is_current,
    migrate,
    own_url,
    sibling_database,
)
from service.runtime.embedded import EmbeddedPostgres, EmbeddedValkey
from service.runtime.embedded.embedded_server import EmbeddedServer
from service.runtime.home import hold_home, make_home
from service.runtime.secrets import admin_password
from service.runtime.supervisor import Supervisor

_TICK_S = 0.1
_STUCK_AFTER_S = 120.0
_FIRST_PAUSE_S = 2.0
_LAST_PAUSE_S = 60.0
_ABORT_PATIENCE_S = 1.0
_KILLED = 130
_METRICS_PORTS = {"crawl": 0, "worker": 1, "serve": 2}
# Our own servers on loopback are crawled without limits.
_DEMO_REQUESTS_PER_S = 500.0
_DEMO_CONCURRENCY = 16

T = TypeVar("T")


class _StoppedError(BaseException):
    """An interrupt during the start; no library that catches Exception swallows it."""


def run(config: Config, console: Console | None = None) -> None:
    """Run the network until SIGINT or SIGTERM. Raises ServiceError."""
    console = console or Console()
    foreign = bool(config.relays or config.hosts or config.dids)
    check_targets(config)
    if not foreign:
        config = _demo_config(demo_network.at_remembered_ports(config))
    if not config.home.exists():
        # Fail before anything is created. In an existing home, the lock comes first:
        # the network that runs there may use the ports.
        _check_ports(config, is_demo=not foreign)
    make_home(config.home)
    with hold_home(config.home), Report(console) as report:
        _check_ports(config, is_demo=not foreign)
        started = _Run(config, report, is_demo=not foreign)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: started.interrupt())
        started.run()


def _demo_config(config: Config) -> Config:
    return config.model_copy(
        update={
            "dev_network": True,
            "event_log": True,
            "hosts": demo_network.pds_urls(config),
            "host_requests_per_s": _DEMO_REQUESTS_PER_S,
            "host_concurrency": _DEMO_CONCURRENCY,
        }
    )


class _Run:
    """One run of `up`, from start to stop."""

    def __init__(self, config: Config, report: Report, *, is_demo: bool) -> None:
        self._config = config
        self._report = report
        self._stop = threading.Event()
        self._is_ready = False
        self._is_demo = is_demo
        self._supervisor = Supervisor(config.home / "logs", report.say)
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._started = time.monotonic()
        self._accounts: list[dict[str, str]] = []

    def interrupt(self) -> None:
        """Begin to stop, from a signal handler; kill everything at the second call."""
        if self._stop.is_set():
            self._report.say("killed; the data stay, and the next start recovers them")
            self._kill()
        self._stop.set()
        self._report.say("stopping (Ctrl-C again kills)")
        if not self._is_ready:
            # Abort any wait of the start.
            raise _StoppedError

    def _kill(self) -> None:
        self._supervisor.kill()
        for server in (self._postgres, self._valkey):
            if server is not None:
                server.kill()
        os._exit(_KILLED)

    def run(self) -> None:
        with ExitStack() as stack:
            try:
                urls = self._start_stores(stack)
                stack.callback(lambda: self._supervisor.stop(self._patience()))
                stack.callback(forget_running, self._config)
                note_running(self._config)
                self._start_children(urls)
                if self._is_demo:
                    self._settle(urls[Database(INDEX)])
                self._announce()
                self._is_ready = True
                while not self._stop.wait(_TICK_S):
                    self._supervise()
            except _StoppedError:
                pass
        self._report.say("stopped; the data stay in " + str(self._config.home))

    def _patience(self) -> float | None:
        """Return the seconds that each part may take to stop; few during a start."""
        return None if self._is_ready else _ABORT_PATIENCE_S

    def _start_stores(self, stack: ExitStack) -> dict[Database, str]:
        """Start the embedded stores and migrate; return the URL of every database."""
        config = self._config
        databases = [Database(INDEX)]
        private = own_url(config, PRIVATE)
        if private is None:
            databases.append(Database(PRIVATE))
        if self._is_demo:
            databases += [Database(PLC)]
            databases += [Database(PDS, letter) for letter in demo_network.LETTERS]
        if config.database_url is None:
            self._report.say("starting PostgreSQL")
            self._postgres = postgres = embedded_postgres(config)
            self._start_server(postgres, stack)
            for database in databases:
                postgres.ensure_database(database.name)
            urls = {each: postgres.url(each.name) for each in databases}
        else:
            own = config.database_url.get_secret_value()
            urls = {each: sibling_database(own, each) for each in databases}
        if private is not None:
            urls[Database(PRIVATE)] = private
        if config.broker_url is None:
            self._report.say("starting Valkey")
            self._valkey = embedded_valkey(config)
            self._start_server(self._valkey, stack)
        for database, url in urls.items():
            if not is_current(url, database.target):
                self._report.say(f"preparing database {database.name}")
                migrate(url, database.target)
        return urls

    def _start_server(self, server: EmbeddedServer, stack: ExitStack) -> None:
        def stop() -> None:
            patience = self._patience()
            if patience is None:
                server.stop()
            else:
                server.stop(patience=patience)

        stack.callback(stop)
        server.start()

    def _start_children(self, urls: dict[Database, str]) -> None:
        index = urls[Database(INDEX)]
        if self._is_demo:
            demo_network.copy_recipes(self._config)
            self._start("plc", ["plc"], urls[Database(PLC)])
            for letter in demo_network.LETTERS:
                url = urls[Database(PDS, letter)]
                self._start(f"pds-{letter}", ["pds", letter], url)
        elif self._config.plc_mirror:
            self._start("plc", ["plc", "--mirror"], index)
        private = urls[Database(PRIVATE)]
        self._start("serve", ["serve"], index, private_url=private)
        self._start("crawl", ["crawl"], index, private_url=private)
        if self._is_demo:
            self._wait_for_health(self._config.plc_port, "/_health")
            for letter in demo_network.LETTERS:
                port = self._config.pds_port(letter)
                self._wait_for_health(port, "/xrpc/_health")
        self._wait_for_health(self._config.provider_port, "/xrpc/_health")
        # The network is usable without the worker, and its tasks survive a kill.
        self._start(
            "worker",
            ["worker", "--beat"],
            index,
            private_url=urls[Database(PRIVATE)],
            expendable=True,
        )

    def _start(
        self,
        name: str,
        arguments: list[str],
        database_url: str,
        *,
        private_url: str | None = None,
        expendable: bool = False,
    ) -> None:
        private = None if private_url is None else SecretStr(private_url)
        update: dict[str, Any] = {
            "database_url": SecretStr(database_url),
            "private_database_url": private,
            "migrate": False,
        }
        if self._config.metrics_port:
            # Each process serves metrics on its own port.
            port = self._config.metrics_port + _METRICS_PORTS.get(name, 0)
            update["metrics_port"] = port
        if self._valkey is not None:
            update["broker_url"] = SecretStr(self._valkey.celery_url())
        config = self._config.model_copy(update=update)
        self._report.say(f"starting {name}")
        argv = [sys.executable, "-m", "service.cli.app", *arguments]
        self._supervisor.start(name, argv, config.environment(), expendable=expendable)

    def _wait_for_health(self, port: int, path: str) -> None:
        url = f"http://{self._config.bind}:{port}{path}"
        # Plain HTTP on this machine: no certificates need to be loaded.
        with httpx.Client(timeout=2, trust_env=False, verify=False) as client:  # noqa: S501
            while not _is_healthy(client, url):
                self._tick()
                self._supervisor.check()

    def _settle(self, index_url: str) -> None:
        """Seed the demo network once, and wait until it is indexed."""
        state = demo_network.load_state(self._config)
        if not state["done"]:
            self._with_retries(lambda: self._seed(state))
            self._wait_until_indexed(index_url)
        self._accounts = state["accounts"]

    def _seed(self, state: dict[str, Any]) -> None:
        report = self._report
        asyncio.run(demo_network.seed(self._config, state, report.count, report.say))

    def _with_retries(self, work: Callable[[], T]) -> T:
        """Call `work` until it succeeds; demo servers may be slow to answer."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return self._in_thread(work)
            except (SeedingError, NetworkError) as error:
                self._report.say(f"{error}; next try in {pause:.0f} s")
            ends = time.monotonic() + pause
            while time.monotonic() < ends:
                self._tick()
            pause = min(2 * pause, _LAST_PAUSE_S)

    def _wait_until_indexed(self, index_url: str) -> None:
        revs = self._with_retries(
            lambda: asyncio.run(demo_network.newest_revs(self._config))
        )
        from demo.indexing import count_indexed

        best, moved = -1, time.monotonic()
        while best < len(revs):
            indexed = count_indexed(index_url, revs)
            if indexed > best:
                best, moved = indexed, time.monotonic()
                self._report.count("indexed", indexed, len(revs))
            elif time.monotonic() - moved > _STUCK_AFTER_S:
                moved = time.monotonic()
                self._report.say(
                    f"no progress for {_STUCK_AFTER_S:.0f} s: {best} of {len(revs)} "
                    "accounts are indexed; waiting (Ctrl-C stops), "
                    f"see {self._config.home / 'logs' / 'crawl.log'}"
                )
            self._tick()

    def _announce(self) -> None:
        config, say = self._config, self._report.say
        path = demo_network.write_endpoints(config, self._accounts)
        admin_password(config)
        seconds = time.monotonic() - self._started
        say(f"ready after {seconds:.0f} s: {config.provider_url}/")
        say(f"  provider  {config.provider_did}")
        if self._is_demo:
            for letter, url in zip(
                demo_network.LETTERS, demo_network.pds_urls(config), strict=True
            ):
                say(f"  PDS {letter.upper()}     {url}")
            names = ", ".join(account["handle"] for account in self._accounts)
            say(f"  log in    {names}; password {self._accounts[0]['password']}")
        else:
            cap = config.account_cap or "no"
            targets = (*config.relays, *config.hosts, *config.dids)
            say(f"  crawling  {', '.join(targets)}; account cap: {cap}")
            for line in self._in_thread(lambda: find_unreachable(config)):
                say(f"  {line}")
            if config.contact is None and not config.dev_network:
                say("  set BIGWORLD_CONTACT, so that hosts can reach you")
        say(f"  endpoints {path}")
        say("  Ctrl-C stops it; the data stay.")

    def _in_thread(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread while the children are supervised."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # re-raised by the waiting thread
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        while not future.done():
            self._tick()
        return future.result()

    def _tick(self) -> None:
        if self._stop.wait(_TICK_S):
            raise _StoppedError
        self._supervise()

    def _supervise(self) -> None:
        for name, server in (("PostgreSQL", self._postgres), ("Valkey", self._valkey)):
            if server is None:
                continue
            if not server.alive:
                self._report.say(f"{name} exited; restarting")
                server.stop()
                server.start()
            server.bound_log()
        self._supervisor.poll()


def _check_ports(config: Config, *, is_demo: bool) -> None:
    """Raise ServiceError if another program uses one of our ports."""
    ports = [config.provider_port]
    if config.plc_mirror:
        ports.append(config.plc_port)
    if is_demo:
        ports += [config.plc_port, *map(config.pds_port, demo_network.LETTERS)]
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((config.bind, port))
            except OSError as error:
                raise ServiceError(
                    f"port {port} of {config.bind} cannot be used: {error.strerror}; "
                    "set BIGWORLD_PORT_BASE or --port-base"
                ) from error


def _is_healthy(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False
