"""`bigworld private …`: the private state of an account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from service.cli.account_names import find_account
from service.cli.groups import Account as AccountName
from service.cli.groups import AsJson, make_group, read_config
from service.runtime.config import Config
from service.runtime.databases import PRIVATE, open_existing
from service.runtime.secrets import private_vault
from storage.postgres.pool import open_pool
from storage.private.account_data import delete_data, export_all, export_searches
from storage.private.private_store import PrivateStore

app: Final = make_group(
    "private", "Mutes, bookmarks, drafts, preferences, saved searches …"
)


@app.command()
def export(account: AccountName) -> None:
    """Print everything as JSON lines, decrypted."""
    config = read_config()
    keys = private_vault(config).account(find_account(config, account))
    with _open_store(config) as store, store.read() as conn:
        for item in export_all(conn, keys):
            typer.echo(json.dumps(item))
        for search in export_searches(conn, keys):
            typer.echo(json.dumps({"kind": "savedSearch", "value": search}))


@app.command()
def delete(account: AccountName, as_json: AsJson = False) -> None:
    """Delete everything. It cannot be undone."""
    config = read_config()
    did = find_account(config, account)
    with _open_store(config) as store, store.write() as conn:
        deleted = delete_data(conn, private_vault(config).account(did))
    if as_json:
        typer.echo(json.dumps({"did": did, "deleted": deleted}))
    else:
        typer.echo(f"{did}: {deleted} items deleted")


@contextmanager
def _open_store(config: Config) -> Iterator[PrivateStore]:
    with (
        open_existing(config, PRIVATE, start=True) as url,
        open_pool(url, max=1) as pool,
    ):
        yield PrivateStore(pool)
