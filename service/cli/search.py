"""`bigworld search …`: search the index, or rebuild it."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import typer
from rich.console import Console

from indexer.collections.texts import TEXTS
from search.drain import drain_outbox, queue_everything
from search.engines.contract import EngineUnavailableError
from search.engines.external import ExternalEngine
from search.rebuild import begin_rebuild, work_beside
from service.cli import saved_searches
from service.cli.groups import AsJson, make_group, read_config
from service.cli.progress import Report
from service.cli.provider_client import print_posts, query_provider
from service.cli.table import print_rows
from service.operator_errors import ConfigError, ServiceError
from service.runtime.databases import INDEX, PRIVATE, open_database, open_existing
from service.runtime.search_engines import make_engine
from service.standing_queries import drain_listener
from storage.postgres.pool import Conn, open_pool
from storage.private.private_store import PrivateStore

SEARCH_POSTS: Final = "app.bsky.feed.searchPosts"
SEARCH_ACTORS: Final = "app.bsky.actor.searchActors"
_DRAIN_BATCH: Final = 2_000
_BUSY_S: Final = 0.1

app = make_group(
    "search", "`bigworld search WORDS` is short for `search query`.", free="query"
)


@app.command()
def query(
    words: Annotated[
        list[str],
        typer.Argument(metavar="QUERY", help='As in the search box: from:, lang:, "…"'),
    ],
    actors: Annotated[
        bool, typer.Option("--actors", help="Search accounts, not posts.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=100, help="Maximum number of results.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Search posts or accounts through the running provider."""
    params = {"q": " ".join(words), "limit": limit}
    if not actors:
        reply = query_provider(read_config(), SEARCH_POSTS, params)
        return print_posts(reply["posts"], as_json=as_json)
    reply = query_provider(read_config(), SEARCH_ACTORS, params)
    columns = ("handle", "displayName", "did")
    rows = [{**dict.fromkeys(columns), **actor} for actor in reply["actors"]]
    print_rows(rows, columns, as_json=as_json)


app.command()(saved_searches.save)
app.command()(saved_searches.saved)
app.command()(saved_searches.forget)


class EngineName(StrEnum):
    """The search engines."""

    POSTGRES = "postgres"
    MEILISEARCH = "meilisearch"
    OPENSEARCH = "opensearch"


@app.command()
def rebuild(
    engine_name: Annotated[
        EngineName | None,
        typer.Option("--engine", help="Default: the engine of the settings."),
    ] = None,
) -> None:
    """Rebuild the search index while everything runs.

    An engine outside Postgres answers from its old index until the new one is whole.
    """
    config = read_config()
    if engine_name == "postgres" and config.search_engine != "postgres":
        raise ConfigError("set search_engine = postgres first: only one engine drains")
    with (
        Report(Console()) as report,
        open_existing(config, INDEX, start=True) as url,
        open_pool(url, max=4) as pool,
        open_database(config, PRIVATE) as private_url,
        open_pool(private_url, max=1) as private,
        pool.connection() as conn,
    ):
        engine = make_engine(config, pool, engine_name)
        drain = partial(
            drain_outbox,
            conn,
            engine,
            TEXTS,
            _DRAIN_BATCH,
            drain_listener(config, PrivateStore(private)),
        )
        if isinstance(engine, ExternalEngine):
            serving = engine.name == config.search_engine
            done = _rebuild_outside(conn, engine, report, drain if serving else None)
            typer.echo(f"{done} accounts written")
            return
        queue_everything(conn, engine)
        done = 0
        # An account's records join the queue when the account itself is drained.
        while left := _queued(conn):
            drained = drain()
            done += drained
            report.count("entries", done, done + left - drained)
    typer.echo(f"{done} entries written")


def _rebuild_outside(
    conn: Conn,
    engine: ExternalEngine,
    report: Report,
    drain: Callable[[], int] | None,
) -> int:
    """Rebuild step by step, beside the crawler if that runs: both do steps in turn.

    `drain` writes new records meanwhile, which would wait for the lock.
    """
    done = 0
    try:
        while not begin_rebuild(conn, engine):
            time.sleep(_BUSY_S)
        while (rebuild := engine.state_for_writes().rebuild) is not None:
            done = rebuild.done
            report.count("accounts", done, max(done, rebuild.total))
            if drain is not None:
                drain()
            if not work_beside(conn, engine, TEXTS):
                time.sleep(_BUSY_S)
    except EngineUnavailableError as error:
        raise ServiceError(f"{error}; run it again to go on") from None
    return done


def _queued(conn: Conn) -> int:
    row = conn.execute("SELECT count(*) FROM search_outbox").fetchone()
    conn.commit()
    assert row is not None
    return int(row[0])
