"""`bigworld takedown …`: accounts that this index does not show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import psycopg
import typer
from psycopg.rows import dict_row

from indexer.account import set_takedown
from protocol.syntax.did import Did
from service.cli.account_names import find_account
from service.cli.groups import Account, AsJson, make_group, read_config
from service.cli.table import print_rows
from service.operator_errors import ConfigError, ServiceError
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from storage.postgres.pool import Conn

app = make_group("takedown")


@app.command()
def add(
    account: Account,
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, for `takedown list`.")
    ],
) -> None:
    """Hide an account from every view, search and stream; its data stay."""
    config = read_config()
    if not reason.strip():
        raise ConfigError("--reason is empty; `takedown list` shows it")
    with _open_account(config, account) as (conn, did, actor, before):
        set_takedown(conn, actor, reason.strip(), rebroadcast=config.event_log)
    if before is None:
        typer.echo(f"{did} is taken down; it is hidden from now on")
    else:
        typer.echo(f"{did} was taken down already ({before}); the reason is replaced")


@app.command()
def undo(account: Account) -> None:
    """Show an account again, with everything it wrote in the meantime."""
    config = read_config()
    with _open_account(config, account) as (conn, did, actor, before):
        if before is None:
            raise ServiceError(f"{did} is not taken down; see `bigworld takedown list`")
        set_takedown(conn, actor, None, rebroadcast=config.event_log)
    typer.echo(f"{did} is shown again; search follows within seconds")


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the accounts that are taken down, with the reasons."""
    with (
        open_existing(read_config(), INDEX) as url,
        psycopg.connect(url, row_factory=dict_row) as conn,
    ):
        rows = conn.execute(
            "SELECT did, handle, takedown AS reason FROM actor"
            " WHERE takedown IS NOT NULL ORDER BY id"
        ).fetchall()
    print_rows(rows, ("did", "handle", "reason"), as_json=as_json)


@contextmanager
def _open_account(
    config: Config, text: str
) -> Iterator[tuple[Conn, Did, int, str | None]]:
    """Open a transaction on an account; yield its DID, id and takedown reason."""
    if "/" in text.removeprefix("at://").rstrip("/"):
        raise ConfigError(
            f"{text!r} is a record: only whole accounts can be taken down; give the"
            " account's DID or handle"
        )
    did = find_account(config, text)
    with open_existing(config, INDEX, start=True) as url, psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT id, takedown FROM actor WHERE did = %s", (did,)
        ).fetchone()
        conn.commit()
        if row is None:
            raise ServiceError(f"{did} is not in the index; nothing of it is shown")
        yield conn, did, row[0], row[1]
