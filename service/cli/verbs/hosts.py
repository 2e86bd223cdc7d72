"""What `bigworld hosts …` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psycopg

from crawler.hosts.discovery import AskedAgain, add_configured, crawl_again
from crawler.hosts.host_name import InvalidHostError, parse_host
from service.cli.verbs.query import show
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.crawl_settings import crawl_settings
from service.runtime.databases import INDEX, open_existing
from storage.hosts import host_rows
from storage.hosts.host_budget import LIMITS, set_limit
from storage.hosts.host_report import host_report
from storage.hosts.host_status import host_statuses

_COLUMNS = ("hostname", "state", "mode", "source", "accounts", "events", "rate")


def show_hosts(config: Config, *, limit: int, as_json: bool) -> None:
    """List the hosts, the busiest first."""
    with open_existing(config, INDEX) as url, psycopg.connect(url) as conn:
        statuses = [asdict(status) for status in host_statuses(conn, limit=limit)]
    columns = (*_COLUMNS, "lag_s", "waiting_repos", "strikes", "error")
    if not as_json:
        statuses = [{name: _short(row[name]) for name in columns} for row in statuses]
    show(statuses, columns, as_json=as_json)


def show_host(config: Config, text: str, *, as_json: bool) -> None:
    """Tell everything about one host."""
    with _host(config, text, start=False) as (conn, host):
        report = host_report(conn, host.hostname)
    assert report is not None
    facts = asdict(report.facts) | {
        "lag_s": report.facts.lag_s,
        "state": report.facts.shown_state,
    }
    if as_json:
        whole = facts | {
            name: [asdict(row) for row in getattr(report, name)]
            for name in ("moves", "drops", "failures")
        }
        print(json.dumps(whole, default=str))
        return
    rows = [{"what": name, "is": _short(value)} for name, value in facts.items()]
    rows += [{"what": f"drops: {drop.reason}", "is": drop.n} for drop in report.drops]
    rows += [{"what": f"fails: {f.error}", "is": f.repos} for f in report.failures]
    rows += [
        {"what": f"{move.before} -> {move.after}", "is": f"{move.at:%F %T}: {move.why}"}
        for move in report.moves
    ]
    show(rows, ("what", "is"), as_json=False)


def _short(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value


def add_host(config: Config, text: str, *, relay: bool) -> str:
    """Crawl and follow a host from now on. Raises ServiceError."""
    settings = crawl_settings(config)
    names = ([], [text]) if relay else ([text], [])
    with open_existing(config, INDEX, start=True) as url, psycopg.connect(url) as conn:
        try:
            add_configured(conn, *names, settings)
        except InvalidHostError as error:
            raise ServiceError(str(error)) from error
    return f"{text} is followed"


def remove_host(config: Config, text: str) -> str:
    """Forget a host; says what happens to its accounts. Raises ServiceError."""
    with _host(config, text) as (conn, host):
        named = [*config.hosts, *config.relays]
        if any(_name_of(url) == host.hostname for url in named):
            raise ServiceError(
                f"{host.hostname} is in the settings (BIGWORLD_HOSTS, BIGWORLD_RELAYS,"
                " --host or --relay), which would add it again: take it out there and"
                " restart first"
            )
        host_rows.remove_host(conn, host.id)
    return (
        f"{host.hostname} is removed and its stream closes within a moment. Its"
        f" {host.accounts} accounts stay in the index as they are: they are updated"
        " only where a relay forwards their commits, or once their DID documents name"
        " another host. If a relay, requestCrawl or a DID document names"
        f" {host.hostname}, it is crawled again as an untrusted host;"
        f" `bigworld hosts ban {host.hostname}` instead keeps it away"
    )


def _name_of(url: str) -> str | None:
    try:
        return parse_host(url, dev=True).name
    except InvalidHostError:
        return None


def ban_host(config: Config, text: str, why: str) -> str:
    """Never contact a host again."""
    with _host(config, text) as (conn, host):
        host_rows.move_host(
            conn, host.id, host_rows.HOST_BANNED, why or "banned by our operator"
        )
    return f"{host.hostname} is banned; its stream closes within a moment"


def unban_host(config: Config, text: str) -> str:
    """Look at a banned or throttled host as if it were new."""
    with _host(config, text) as (conn, host):
        if host.state not in (host_rows.HOST_BANNED, host_rows.HOST_THROTTLED):
            raise ServiceError(f"{host.hostname} is neither banned nor throttled")
        host_rows.move_host(
            conn, host.id, host_rows.HOST_NEW, "let in again by our operator"
        )
        host_rows.forgive(conn, host.id)
        host_rows.request_listing(conn, host.id)
    return f"{host.hostname} is looked at again"


def crawl_host(config: Config, text: str) -> str:
    """Have a host compared in full, now."""
    settings = crawl_settings(config)
    with _host(config, text) as (conn, host):
        outcome = crawl_again(conn, host.hostname, settings)
    if outcome is AskedAgain.BANNED:
        raise ServiceError(f"{host.hostname} is banned")
    if outcome is AskedAgain.ALREADY:
        return f"{host.hostname}: this was asked for a short while ago already"
    if outcome is AskedAgain.LATER:
        return (
            f"{host.hostname} is throttled, and compared in full when that is over;"
            f" `bigworld hosts unban {host.hostname}` ends it"
        )
    return f"{host.hostname} is compared in full, beginning within a minute"


def limit_host(
    config: Config, text: str, values: Mapping[str, float | None], *, reset: bool
) -> str:
    """Give a host limits of its own; None leaves one as it is."""
    with _host(config, text) as (conn, host):
        for name in LIMITS if reset else ():
            set_limit(conn, host.id, name, None)
        for name, value in values.items():
            if value is not None:
                set_limit(conn, host.id, name, value)
        known = host_rows.load_hosts(conn, [host.id])[host.id]
    own = {name: getattr(known, name) for name in LIMITS}
    told = [f"{name} {value:g}" for name, value in own.items() if value is not None]
    return f"{host.hostname}: {', '.join(told) or 'the limits of all'}"


@contextmanager
def _host(
    config: Config, text: str, *, start: bool = True
) -> Iterator[tuple[psycopg.Connection[Any], host_rows.Host]]:
    """A known host, in one transaction. Raises ServiceError for any other."""
    try:
        # Nothing is contacted: a loopback host of a development network is a name too.
        name = parse_host(text, dev=True).name
    except InvalidHostError as error:
        raise ServiceError(str(error)) from error
    with (
        open_existing(config, INDEX, start=start) as url,
        psycopg.connect(url) as conn,
    ):
        known = host_rows.find_hosts(conn, [name]).get(name)
        if known is None:
            raise ServiceError(f"there is no host {name}")
        yield conn, known
