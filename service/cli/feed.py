"""`bigworld feed …`: the feeds of this provider."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from feeds.registry import FEEDS
from feeds.scripts.script_book import ScriptBook
from feeds.served_feeds import ServedFeeds
from feeds.skeleton import Algorithm
from service.cli.feeds import feed_import, feed_publish, feed_recipes, feed_stats
from service.cli.groups import AsJson, make_group, read_config
from service.cli.provider_client import print_posts, query_provider
from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.recipe_files import recipe_folder
from service.runtime.config import Config
from service.runtime.databases import PRIVATE, open_existing
from storage.postgres.pool import open_pool
from storage.private.private_store import PrivateStore

DESCRIBE_FEEDS: Final = "app.bsky.feed.describeFeedGenerator"
GET_FEED: Final = "app.bsky.feed.getFeed"

app = make_group(
    "feed",
    "`bigworld feed` lists them, `bigworld feed NAME` reads one.",
    bare="list",
    free="show",
)


@app.command("list")
def list_feeds(as_json: AsJson = False) -> None:
    """List the feeds: built-in ones, recipes and Python files."""
    config = read_config()
    rows = [
        {"name": feed.name, "title": feed.display_name, "about": feed.description}
        for feed in [*FEEDS.values(), *_recipes(config), *_scripts(config)]
    ]
    print_rows(rows, ("name", "title", "about"), as_json=as_json)


def _recipes(config: Config) -> list[Algorithm]:
    """Return the recipes of a provider that has run; none before."""
    try:
        with (
            open_existing(config, PRIVATE, start=True) as url,
            open_pool(url, max=1) as pool,
        ):
            feeds = ServedFeeds().current(PrivateStore(pool), config.provider_did)
    except ServiceError:
        return []
    return [s.algorithm for s in feeds.own.values() if s.recipe is not None]


def _scripts(config: Config) -> list[Algorithm]:
    """Return the Python files of the folder."""
    book = ScriptBook(recipe_folder(config))
    try:
        book.refresh()
        return [known.feed.algorithm for known in book.scripts.values()]
    finally:
        book.close()


app.command()(feed_recipes.check)
app.command()(feed_recipes.preview)
app.command()(feed_recipes.explain)
app.command()(feed_recipes.backtest)
app.command("import")(feed_import.import_file)
app.command()(feed_publish.publish)
app.command()(feed_publish.unpublish)
app.command()(feed_stats.stats)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The feed's name.")],
    limit: Annotated[
        int, typer.Option(min=1, max=100, help="Maximum number of results.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Read a feed through the running provider."""
    config = read_config()
    uris = [feed["uri"] for feed in query_provider(config, DESCRIBE_FEEDS, {})["feeds"]]
    uri = next((uri for uri in uris if uri.endswith(f"/{name}")), None)
    if uri is None:
        raise ServiceError(f"the provider serves no feed {name!r}")
    reply = query_provider(config, GET_FEED, {"feed": uri, "limit": limit})
    print_posts([item["post"] for item in reply["feed"]], as_json=as_json)
