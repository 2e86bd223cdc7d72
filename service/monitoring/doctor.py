"""Checks of `bigworld doctor`, each with its advice."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from service.monitoring.alarm_rules import find_alarms
from service.monitoring.snapshot import take_snapshot
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.databases import (
    INDEX,
    database_name,
    embedded_postgres,
    is_current,
)
from service.runtime.embedded.binaries import (
    machine_postgres,
    wheel_postgres,
    wheel_valkey,
)
from storage.hosts.host_budget import count_accounts
from storage.repos.scope_rows import load_scope

_GIB = 2**30
_WANTED_DISK = 2 * _GIB
_WANTED_POSTGRES = 170_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check; `advice` applies if it is not well."""

    subject: str
    well: bool
    detail: str
    advice: str = ""


def examine(config: Config) -> list[Finding]:
    """Run every check; nothing is started or changed."""
    checks: tuple[Callable[[Config], Iterator[Finding]], ...] = (
        _check_python,
        _check_home,
        _check_database,
        _check_broker,
        _check_ports,
        _check_clock,
        _check_contact,
        _check_alarms,
    )
    return [finding for check in checks for finding in check(config)]


def _check_python(_: Config) -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(
        "python",
        sys.version_info >= (3, 11),
        f"{version} at {sys.executable}",
        "install Python 3.11 or newer",
    )


def _check_home(config: Config) -> Iterator[Finding]:
    home = config.home.absolute()
    existing = next(path for path in (home, *home.parents) if path.exists())
    writable = os.access(existing, os.W_OK | os.X_OK)
    yield Finding(
        "home", writable, f"{home}", f"make {existing} writable or set BIGWORLD_HOME"
    )
    free = shutil.disk_usage(existing).free
    yield Finding(
        "disk",
        free >= _WANTED_DISK,
        f"{free / _GIB:.1f} GiB free",
        "keep at least 2 GiB free under BIGWORLD_HOME",
    )


def _check_database(config: Config) -> Iterator[Finding]:
    if config.database_url is None:
        yield _binary("postgres", lambda: _postgres_binaries(config))
        return
    try:
        with psycopg.connect(
            config.database_url.get_secret_value(), connect_timeout=5
        ) as conn:
            version = conn.info.server_version
    except psycopg.Error as error:
        detail = str(error).splitlines()[0]
        yield Finding("postgres", False, detail, "check DATABASE_URL and the server")
        return
    yield Finding(
        "postgres",
        version >= _WANTED_POSTGRES,
        f"your own, version {version // 10_000}",
        "use PostgreSQL 17 or newer",
    )


def _postgres_binaries(config: Config) -> Path:
    if config.machine_postgres:
        found = machine_postgres()
        if found is None:
            raise ServiceError("no PostgreSQL 17 or newer on this machine")
        return found
    return wheel_postgres()


def _check_broker(config: Config) -> Iterator[Finding]:
    if config.broker_url is None:
        yield _binary("valkey", wheel_valkey)
        return
    url = config.broker_url.get_secret_value().replace("redis+socket://", "unix://")
    try:
        with closing(redis.Redis.from_url(url, socket_timeout=5)) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        yield Finding("valkey", False, str(error), "check BROKER_URL and the server")
    else:
        yield Finding("valkey", True, "your own")


def _binary(subject: str, find: Callable[[], Path]) -> Finding:
    try:
        path = find()
    except ServiceError as error:
        return Finding(subject, False, str(error), "see the message")
    return Finding(subject, path.exists(), f"embedded, {path}", "run ./bigworld again")


def _check_ports(config: Config) -> Iterator[Finding]:
    for port in range(config.port_base, config.port_base + 4):
        with socket.socket() as probe:
            probe.settimeout(1)
            taken = probe.connect_ex((config.bind, port)) == 0
        # Our own running network is fine.
        ours = taken and (config.home / "endpoints.json").exists()
        yield Finding(
            f"port {port}",
            not taken or ours,
            "in use by our network" if ours else "in use" if taken else "free",
            "stop the other program or set BIGWORLD_PORT_BASE",
        )


def _check_clock(_: Config) -> Iterator[Finding]:
    # Commits from the future are refused, so that a late clock refuses everything.
    plausible = time.time() > Path(__file__).stat().st_mtime - 86_400
    yield Finding("clock", plausible, time.strftime("%F %T %Z"), "set the clock")


def _check_contact(config: Config) -> Iterator[Finding]:
    foreign = bool(config.relays or config.hosts or config.dids)
    if foreign and not config.dev_network:
        yield Finding(
            "contact",
            config.contact is not None,
            config.user_agent,
            "set BIGWORLD_CONTACT, so that operators of foreign hosts can reach you",
        )
    if config.dev_network:
        yield Finding(
            "development network",
            True,
            "on: loopback and plain http hosts are allowed; never use it in public",
        )


def _check_alarms(config: Config) -> Iterator[Finding]:
    """Yield the alarms of the running index."""
    url = _running_index(config)
    if url is None:
        return
    try:
        if not is_current(url, INDEX):
            return
        with psycopg.connect(url, connect_timeout=5) as conn:
            snapshot = take_snapshot(conn)
            accounts, whole = count_accounts(conn), load_scope(conn).whole
    except psycopg.Error as error:
        detail = str(error).splitlines()[0]
        yield Finding("index", False, detail, "see logs/postgres.log")
        return
    if 0 < config.account_cap <= accounts:
        # A cap is a choice for the network, and a fault for a smaller scope.
        yield Finding(
            "account cap",
            whole,
            f"{accounts:,} of at most {config.account_cap:,}: no account is admitted",
            "raise BIGWORLD_ACCOUNT_CAP, or choose a smaller scope",
        )
    alarms = find_alarms(snapshot)
    for alarm in alarms:
        explanation = alarm.explanation
        yield Finding(
            f"{alarm.kind.value.replace('_', ' ')}: {alarm.subject}",
            False,
            f"{alarm.detail}. {explanation.means}",
            explanation.advice,
        )
    if not alarms:
        detail = f"no active alarms, {len(snapshot.hosts)} hosts followed"
        yield Finding("alarms", True, detail)


def _running_index(config: Config) -> str | None:
    """Return the URL of the running index, if any."""
    if config.database_url is not None:
        return config.database_url.get_secret_value()
    if not (config.home / "postgres").exists():
        return None
    try:
        server = embedded_postgres(config)
        return server.url(database_name(INDEX)) if server.attach() else None
    except ServiceError:
        return None
