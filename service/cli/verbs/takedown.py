"""The verbs `bigworld takedown …`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from indexer.account import set_takedown
from protocol.syntax.did import Did
from service.cli.account_names import find_account
from service.cli.verbs.query import show
from service.operator_errors import ConfigError, ServiceError
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing

_COLUMNS = ("did", "handle", "reason")


def add(config: Config, text: str, reason: str) -> str:
    """Hide an account. Raises ServiceError."""
    if not reason.strip():
        raise ConfigError("--reason: say why; `takedown list` shows it")
    with _known(config, text) as (conn, did, actor, before):
        set_takedown(conn, actor, reason.strip(), send_on=config.event_log)
    if before is not None:
        return f"{did} was taken down already ({before}); the reason is replaced"
    return f"{did} is taken down; no answer shows it from now on"


def undo(config: Config, text: str) -> str:
    """Show an account again. Raises ServiceError."""
    with _known(config, text) as (conn, did, actor, before):
        if before is None:
            raise ServiceError(f"{did} is not taken down; see `bigworld takedown list`")
        set_takedown(conn, actor, None, send_on=config.event_log)
    return f"{did} is shown again; search follows within seconds"


def show_all(config: Config, *, as_json: bool) -> None:
    """Print the accounts that are taken down."""
    with (
        open_existing(config, INDEX) as url,
        psycopg.connect(url, row_factory=dict_row) as conn,
    ):
        rows = conn.execute(
            "SELECT did, handle, takedown AS reason FROM actor"
            " WHERE takedown IS NOT NULL ORDER BY id"
        ).fetchall()
    show(rows, _COLUMNS, as_json=as_json)


@contextmanager
def _known(
    config: Config, text: str
) -> Iterator[tuple[psycopg.Connection[Any], Did, int, str | None]]:
    """An account of the index with its id and the reason that it is taken down for."""
    if "/" in text.removeprefix("at://").rstrip("/"):
        raise ConfigError(
            f"{text!r} names a record: only whole accounts can be taken down here;"
            " name its account by DID or handle"
        )
    did = find_account(config, text)
    with (
        open_existing(config, INDEX, start=True) as url,
        psycopg.connect(url) as conn,
    ):
        row = conn.execute(
            "SELECT id, takedown FROM actor WHERE did = %s", (did,)
        ).fetchone()
        conn.commit()
        if row is None:
            raise ServiceError(f"{did} is not in the index; nothing of it is shown")
        yield conn, did, row[0], row[1]
