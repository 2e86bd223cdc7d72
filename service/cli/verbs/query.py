"""`bigworld repos`, `search`, `feeds`: what an operator looks at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from feeds.registry import FEEDS
from network.errors import NetworkError, XrpcError
from network.xrpc.client import XrpcClient
from protocol.syntax.did import Did
from service.demo_network import own_fetcher
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from storage.repos import repo_rows

SEARCH_POSTS = "app.bsky.feed.searchPosts"
SEARCH_ACTORS = "app.bsky.actor.searchActors"
DESCRIBE_FEEDS = "app.bsky.feed.describeFeedGenerator"
GET_FEED = "app.bsky.feed.getFeed"

_PIPE_WIDTH = 240

Rows = Sequence[Mapping[str, Any]]


def show(rows: Rows, columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows as a table, or one JSON object a line with all their fields; that
    there are none is said to people."""
    if as_json:
        for row in rows:
            print(json.dumps(row, default=_plain, ensure_ascii=False))
        return
    if not rows:
        print("nothing found")
        return
    table = Table(box=None)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = [_plain(row[column]) for column in columns]
        table.add_row(*["" if cell is None else str(cell) for cell in cells])
    console = Console()
    # Nobody folds the lines of a file or a pipe.
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    console.print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    return value


def show_repos(
    config: Config, *, state: str | None, did: str | None, limit: int, as_json: bool
) -> None:
    """List repos, those that wait or fail first."""
    query = """
        SELECT did, handle, hostname, repo.state, rev, upstream_status, repo.tries,
               repo.next_try, repo.error
        FROM repo JOIN actor ON actor.id = repo.actor
        LEFT JOIN host ON host.id = repo.host
        WHERE (%(state)s::text IS NULL OR repo.state = %(state)s)
          AND (%(did)s::text IS NULL OR did = %(did)s)
        ORDER BY repo.state = 'synchronized', repo.tries DESC, actor.id LIMIT %(limit)s
    """
    with (
        open_existing(config, INDEX) as url,
        psycopg.connect(url, row_factory=dict_row) as conn,
    ):
        values = {"state": state, "did": did, "limit": limit}
        rows = conn.execute(query, values).fetchall()
    if did is not None and state is None and not rows:
        raise ServiceError(f"{did} is not in the index")
    columns = ("did", "handle", "hostname", "state", "rev", "tries", "error")
    show(rows, columns, as_json=as_json)


def resync_repo(config: Config, did: Did) -> None:
    """Have one repo fetched again. Raises ServiceError for one that is not here."""
    with open_existing(config, INDEX, start=True) as url, psycopg.connect(url) as conn:
        if did not in repo_rows.find_repos(conn, [did]):
            raise ServiceError(f"{did} is not in the index")
        repo_rows.mark_desynchronized(conn, [did], "asked for by the operator")


def search(
    config: Config, query: str, *, actors: bool, limit: int, as_json: bool
) -> None:
    """Ask the running provider. Raises ServiceError when it does not answer."""
    nsid = SEARCH_ACTORS if actors else SEARCH_POSTS
    answer = _ask(config, nsid, {"q": query, "limit": limit})
    if actors:
        columns = ("handle", "displayName", "did")
        rows = [{**dict.fromkeys(columns), **actor} for actor in answer["actors"]]
        show(rows, columns, as_json=as_json)
    else:
        _show_posts(answer["posts"], as_json=as_json)


def show_feeds(config: Config, *, name: str | None, limit: int, as_json: bool) -> None:
    """List the feeds, or read one of them from the running provider."""
    if name is None:
        rows = [
            {"name": feed.name, "title": feed.display_name, "about": feed.description}
            for feed in FEEDS.values()
        ]
        show(rows, ("name", "title", "about"), as_json=as_json)
        return
    uris = [feed["uri"] for feed in _ask(config, DESCRIBE_FEEDS, {})["feeds"]]
    uri = next((uri for uri in uris if uri.endswith(f"/{name}")), None)
    if uri is None:
        raise ServiceError(f"the provider serves no feed {name!r}")
    answer = _ask(config, GET_FEED, {"feed": uri, "limit": limit})
    posts = [item["post"] for item in answer["feed"]]
    _show_posts(posts, as_json=as_json)


def _show_posts(posts: Rows, *, as_json: bool) -> None:
    rows = [
        {
            **post,
            "when": str(post["record"].get("createdAt", ""))[:16],
            "who": post["author"]["handle"],
            "text": post["record"].get("text", ""),
        }
        for post in posts
    ]
    show(rows, ("when", "who", "text", "uri"), as_json=as_json)


def _ask(config: Config, nsid: str, params: dict[str, Any]) -> Any:
    async def ask() -> Any:
        async with own_fetcher(config) as fetcher:
            return await XrpcClient(fetcher, config.provider_url).query(nsid, params)

    try:
        return asyncio.run(ask())
    except XrpcError as error:
        raise ServiceError(f"the provider refused: {error}") from error
    except NetworkError as error:
        raise ServiceError(
            f"no provider answers at {config.provider_url}: start it (bigworld up), or "
            f"say where it is (BIGWORLD_PORT_BASE, BIGWORLD_PUBLIC_URL); {error}"
        ) from error
