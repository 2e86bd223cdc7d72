"""`bigworld search save|saved|forget`: the provider's own saved searches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from appview.views.saved_search import read_search_id, saved_search_view
from mirror.match_streams import PATH
from search.matches.saving import Draft, UnknownSearchError, save_draft
from search.query.operators import InvalidQueryError
from service.cli.groups import AsJson, read_config
from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.databases import INDEX, PRIVATE, open_database, open_existing
from service.runtime.secrets import SecretStore
from storage.collections import FEED_POST
from storage.postgres.pool import Pool, open_pool
from storage.private.match_webhooks import find_webhooks
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import (
    SavedSearch,
    TooManySearchesError,
    delete_search,
    find_searches,
)

_COLUMNS: Final = ("id", "query", "name", "state", "webhook")
SearchId = Annotated[str, typer.Argument(metavar="ID", help="As `search saved` shows.")]


def save(
    words: Annotated[
        list[str], typer.Argument(metavar="QUERY", help="As in the search box.")
    ],
    name: Annotated[str, typer.Option(help="A name, for `search saved`.")] = "",
    collections: Annotated[
        list[str] | None,
        typer.Option("--collection", help="Type of records, an NSID. Default: posts."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="URL that matches are sent to.")
    ] = None,
    number: Annotated[
        str | None, typer.Option("--id", help="Change this saved search.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Save a search; new records that match are streamed."""
    config = read_config()
    draft = Draft(
        " ".join(words),
        name,
        collections or (FEED_POST,),
        webhook,
        None if number is None else read_search_id(number),
    )
    with _open_stores(config) as (index, private):
        try:
            saved, secret = save_draft(
                private, index.connection, config.provider_did, draft
            )
        except (InvalidQueryError, TooManySearchesError, UnknownSearchError) as error:
            raise ServiceError(str(error)) from error
        [row] = _rows(config, private, [saved])
    if secret is not None:
        row["webhookSecret"] = secret.decode()
    if as_json:
        return print_rows([row], _COLUMNS, as_json=True)
    typer.echo(f"saved as {saved.id}\nstream: {row['stream']}")
    if secret is not None:
        typer.echo(f"secret of the webhook, shown once: {row['webhookSecret']}")


def saved(as_json: AsJson = False) -> None:
    """List the saved searches of the provider."""
    config = read_config()
    with _open_stores(config) as (_, private):
        with private.read() as conn:
            searches = find_searches(conn, config.provider_did)
        rows = _rows(config, private, searches)
    print_rows(rows, _COLUMNS, as_json=as_json)


def forget(number: SearchId) -> None:
    """Remove a saved search, with its webhook."""
    config = read_config()
    with _open_stores(config) as (_, private), private.write() as conn:
        if not delete_search(conn, config.provider_did, read_search_id(number)):
            raise ServiceError(f"there is no saved search {number}; see `search saved`")
    typer.echo(f"{number} is removed")


@contextmanager
def _open_stores(config: Config) -> Iterator[tuple[Pool, PrivateStore]]:
    with (
        open_existing(config, INDEX, start=True) as url,
        open_database(config, PRIVATE) as private_url,
        open_pool(url, max=1) as index,
        open_pool(private_url, max=1) as private,
    ):
        yield index, PrivateStore(private)


def _rows(
    config: Config, private: PrivateStore, searches: list[SavedSearch]
) -> list[dict[str, Any]]:
    with private.read() as conn:
        webhooks = find_webhooks(conn, [search.id for search in searches])
    secret = SecretStore(config.home).key("cursors")
    rows = []
    for search in searches:
        view = saved_search_view(secret, search, webhooks.get(search.id))
        hook = view.get("webhook", {})
        state = "paused" if search.paused_at else hook.get("status", "active")
        stream = f"{config.provider_url}{PATH}?key={view['streamKey']}"
        row = {"name": "", **view, "state": state, "stream": stream}
        rows.append(row | {"webhook": hook.get("url", "")})
    return rows
