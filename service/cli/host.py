"""`bigworld host …`: list hosts and set the policy of single ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Final

import psycopg
import typer

from crawler.hosts.discovery import AskedAgain, add_configured, crawl_again
from crawler.hosts.host_name import InvalidHostError, parse_host
from service.cli.groups import AsJson, Limit, make_group, read_config
from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.crawl_settings import crawl_settings
from service.runtime.databases import INDEX, open_existing
from storage.hosts import host_rows, host_strikes
from storage.hosts.host_budget import LIMITS, set_limit
from storage.hosts.host_report import host_report
from storage.hosts.host_status import host_statuses
from storage.postgres.pool import Conn

_COLUMNS: Final = (
    *("hostname", "state", "mode", "source", "accounts", "events", "rate"),
    *("lag_s", "waiting_repos", "strikes", "error"),
)

Name = Annotated[str, typer.Argument(help="The host's name, or its URL.")]

app = make_group("host", "`bigworld host` lists them, the busiest first.", bare="list")


@app.command("list")
def list_hosts(limit: Limit = 200, as_json: AsJson = False) -> None:
    """List hosts, the busiest first: state, lag, faults."""
    with open_existing(read_config(), INDEX) as url, psycopg.connect(url) as conn:
        rows = [asdict(status) for status in host_statuses(conn, limit=limit)]
    if not as_json:
        rows = [{name: _short(row[name]) for name in _COLUMNS} for row in rows]
    print_rows(rows, _COLUMNS, as_json=as_json)


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show everything about one host."""
    with _open_host(read_config(), name, start=False) as (conn, host):
        report = host_report(conn, host.hostname)
    assert report is not None
    facts = asdict(report.facts) | {
        "lag_s": report.facts.lag_s,
        "state": report.facts.shown_state,
    }
    if as_json:
        whole = facts | {
            part: [asdict(row) for row in getattr(report, part)]
            for part in ("moves", "drops", "failures")
        }
        typer.echo(json.dumps(whole, default=str))
        return
    rows = [{"what": fact, "is": _short(value)} for fact, value in facts.items()]
    rows += [{"what": f"drops: {drop.reason}", "is": drop.n} for drop in report.drops]
    rows += [{"what": f"fails: {f.error}", "is": f.repos} for f in report.failures]
    rows += [
        {"what": f"{move.before} -> {move.after}", "is": f"{move.at:%F %T}: {move.why}"}
        for move in report.moves
    ]
    print_rows(rows, ("what", "is"), as_json=False)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="The PDS or relay, by its URL.")],
    relay: Annotated[
        bool, typer.Option("--relay", help="It forwards other hosts' commits.")
    ] = False,
) -> None:
    """Crawl and follow a host from now on, as a trusted one."""
    config = read_config()
    settings = crawl_settings(config)
    names = ([], [url]) if relay else ([url], [])
    with (
        open_existing(config, INDEX, start=True) as database,
        psycopg.connect(database) as conn,
    ):
        try:
            add_configured(conn, *names, settings)
        except InvalidHostError as error:
            raise ServiceError(str(error)) from error
    typer.echo(f"{url} is followed")


@app.command()
def remove(name: Name) -> None:
    """Forget a host; its accounts stay as they are."""
    config = read_config()
    with _open_host(config, name) as (conn, host):
        named = [*config.hosts, *config.relays]
        if any(_name_of(url) == host.hostname for url in named):
            raise ServiceError(
                f"{host.hostname} is in the settings (BIGWORLD_HOSTS, BIGWORLD_RELAYS,"
                " --host or --relay), which would add it again: remove it there and"
                " restart first"
            )
        host_rows.remove_host(conn, host.id)
    typer.echo(
        f"{host.hostname} is removed and its stream closes within a moment. Its"
        f" {host.accounts} accounts stay in the index as they are: they are updated"
        " only where a relay forwards their commits, or once their DID documents name"
        " another host. If a relay, requestCrawl or a DID document names"
        f" {host.hostname}, it is crawled again as an untrusted host;"
        f" `bigworld host ban {host.hostname}` instead keeps it away"
    )


def _name_of(url: str) -> str | None:
    try:
        return parse_host(url, dev=True).name
    except InvalidHostError:
        return None


@app.command()
def ban(
    name: Name,
    why: Annotated[str, typer.Option(help="The reason, for the host's page.")] = "",
) -> None:
    """Never contact a host again; its indexed data stay."""
    with _open_host(read_config(), name) as (conn, host):
        host_rows.move_host(
            conn, host.id, host_rows.HOST_BANNED, why or "banned by our operator"
        )
    typer.echo(f"{host.hostname} is banned; its stream closes within a moment")


@app.command()
def unban(name: Name) -> None:
    """Lift a ban, or end a throttling; the host starts over as a new one."""
    with _open_host(read_config(), name) as (conn, host):
        if host.state not in (host_rows.HOST_BANNED, host_rows.HOST_THROTTLED):
            raise ServiceError(f"{host.hostname} is neither banned nor throttled")
        host_rows.move_host(
            conn, host.id, host_rows.HOST_NEW, "unbanned by our operator"
        )
        host_strikes.forgive(conn, host.id)
        host_rows.request_listing(conn, host.id)
    typer.echo(f"{host.hostname} is crawled again")


@app.command()
def crawl(name: Name) -> None:
    """Compare every repo of a host with ours, now."""
    config = read_config()
    with _open_host(config, name) as (conn, host):
        outcome = crawl_again(conn, host.hostname, crawl_settings(config))
    if outcome is AskedAgain.BANNED:
        raise ServiceError(f"{host.hostname} is banned")
    if outcome is AskedAgain.ALREADY:
        typer.echo(f"{host.hostname}: a crawl was requested a short while ago already")
    elif outcome is AskedAgain.LATER:
        typer.echo(
            f"{host.hostname} is throttled and will be compared when that is over;"
            f" `bigworld host unban {host.hostname}` ends it"
        )
    else:
        typer.echo(f"{host.hostname} is compared in full, beginning within a minute")


@app.command()
def limit(
    name: Name,
    max_accounts: Annotated[
        int | None, typer.Option(min=0, help="Accounts in all.")
    ] = None,
    accounts_per_day: Annotated[
        int | None, typer.Option(min=0, help="New accounts a day.")
    ] = None,
    requests_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Requests a second sent to it.")
    ] = None,
    events_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Events a second read from it.")
    ] = None,
    bytes_per_s: Annotated[
        float | None, typer.Option(min=1.0, help="Bytes a second read from it.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="First remove all limits of this host.")
    ] = False,
) -> None:
    """Set limits of a single host.

    Its stream applies them when it next connects.
    """
    values = {
        "max_accounts": max_accounts,
        "accounts_per_day": accounts_per_day,
        "requests_per_s": requests_per_s,
        "events_per_s": events_per_s,
        "bytes_per_s": bytes_per_s,
    }
    with _open_host(read_config(), name) as (conn, host):
        for limit_name in LIMITS if reset else ():
            set_limit(conn, host.id, limit_name, None)
        for limit_name, value in values.items():
            if value is not None:
                set_limit(conn, host.id, limit_name, value)
        known = host_rows.load_hosts(conn, [host.id])[host.id]
    own = {limit_name: getattr(known, limit_name) for limit_name in LIMITS}
    shown = [f"{key} {value:g}" for key, value in own.items() if value is not None]
    typer.echo(f"{host.hostname}: {', '.join(shown) or 'default limits'}")


@contextmanager
def _open_host(
    config: Config, text: str, *, start: bool = True
) -> Iterator[tuple[Conn, host_rows.Host]]:
    """Open a transaction on a known host. Raises ServiceError for an unknown one."""
    try:
        # No host is contacted here, so that loopback names are safe.
        name = parse_host(text, dev=True).name
    except InvalidHostError as error:
        raise ServiceError(str(error)) from error
    with open_existing(config, INDEX, start=start) as url, psycopg.connect(url) as conn:
        known = host_rows.find_hosts(conn, [name]).get(name)
        if known is None:
            raise ServiceError(f"there is no host {name}")
        yield conn, known
