"""Recipes read by commands: previews, explanations and backtests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appview.app import AppView
from appview.session import RequestContext
from appview.shapes.feed_preview import FEED, SKELETON, preview_feed, preview_skeleton
from feeds.recipes.compiling import CompiledRecipe
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.saving import prepare_recipe
from feeds.registry import FEEDS
from feeds.serving.backtest import BacktestDay, backtest
from feeds.serving.drafts import draft_feed
from feeds.serving.explaining import Explanation, explain_empty, explain_post
from feeds.serving.recipe_feed import RecipeFeed
from feeds.skeleton import ViewerRequiredError
from indexer.repos.export import open_export
from network.xrpc.server import XrpcError
from search.engines.contract import TooCostlyError
from service.operator_errors import ServiceError
from service.recipe_files import read_text
from service.runtime.config import Config
from service.runtime.databases import INDEX, PRIVATE, open_database, open_existing
from service.runtime.search_engines import make_engine
from service.runtime.secrets import SecretStore, private_vault
from storage.collections import FEED_GENERATOR
from storage.postgres.pool import Pool, open_pool
from storage.private.feeds.feed_recipes import PROVIDER, find_recipe
from storage.private.private_store import PrivateStore
from storage.records.addresses import find_actors, find_handles

_TIMEOUT_MS = 60_000


@dataclass(frozen=True, slots=True)
class OpenRecipe:
    """A recipe with the index that it reads. `stored`: its candidates are stored."""

    app: AppView
    feed: RecipeFeed
    stored: bool
    viewer: str | None

    @property
    def uri(self) -> str:
        """Return the AT-URI of the feed under the provider's DID."""
        name = self.feed.compiled.recipe.name
        return f"at://{self.app.service_did}/{FEED_GENERATOR}/{name}"

    def preview(
        self, limit: int, cursor: str | None, *, skeleton: bool
    ) -> dict[str, Any]:
        """Return a page as it is served. Raises ServiceError."""
        params = {"feed": self.uri, "limit": limit}
        if cursor is not None:
            params["cursor"] = cursor
        run = preview_skeleton if skeleton else preview_feed
        context = RequestContext(self.app, SKELETON if skeleton else FEED, self.viewer)
        try:
            return run(context, self.feed.algorithm, params)
        except XrpcError as error:
            raise ServiceError(str(error)) from error

    def explain(self, uri: str) -> Explanation:
        """Explain a post."""
        with self.app.pool.connection() as conn:
            conn.execute(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}")
            viewer = self._find_viewer()
            return explain_post(conn, self.feed, uri, viewer, stored=self.stored)

    def explain_empty(self) -> list[str]:
        """Return why the feed has no posts; empty if it has some."""
        with self.app.pool.connection() as conn:
            viewer = self._find_viewer()
            return explain_empty(conn, self.feed, viewer, stored=self.stored)

    def backtest(self, days: int) -> list[BacktestDay]:
        """Replay the past days. Raises ServiceError."""
        with self.app.pool.connection() as conn:
            try:
                return backtest(conn, self.feed, self._find_viewer(), days)
            except ViewerRequiredError as error:
                raise ServiceError(f"{error}: name one with --viewer") from error

    def _find_viewer(self) -> int | None:
        if self.viewer is None:
            return None
        with self.app.pool.connection() as conn:
            found = find_actors(conn, [self.viewer]).get(self.viewer)
        if found is None:
            raise ServiceError(f"the index does not know {self.viewer}")
        return found


@contextmanager
def open_recipe(
    config: Config, name: str, viewer: str | None = None
) -> Iterator[OpenRecipe]:
    """Open a recipe file, or a feed of the provider by its name.

    `viewer` is a DID or handle. Raises ServiceError.
    """
    with (
        open_existing(config, INDEX, start=True) as url,
        open_database(config, PRIVATE) as private_url,
        open_pool(url, max=4) as pool,
        open_pool(private_url, max=2) as private_pool,
    ):
        app = _make_reader(config, pool, PrivateStore(private_pool))
        try:
            compiled = _prepare(app, _find_text(app, name))
            feed, stored = draft_feed(pool, app.engine, compiled, app.feeds.shared)
        except InvalidRecipeError as error:
            raise ServiceError(f"{name}: {error}") from error
        except TooCostlyError as error:
            raise ServiceError(f"the search takes too long: {error}") from error
        yield OpenRecipe(app, feed, stored, _viewer_did(pool, viewer))


def _find_text(app: AppView, name: str) -> str:
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        try:
            return read_text(path)
        except OSError as error:
            raise ServiceError(f"{name} is not readable: {error}") from error
    if name in FEEDS:
        raise ServiceError(f"{name} is a built-in feed, not a recipe")
    with app.private.read() as conn:
        stored = find_recipe(conn, PROVIDER, name)
    if stored is None or stored.text is None:
        raise ServiceError(f"there is no recipe {name}: name a feed or a .toml file")
    return stored.text


def _prepare(app: AppView, text: str) -> CompiledRecipe:
    return prepare_recipe(app.private, app.pool.connection, app.service_did, text)


def _viewer_did(pool: Pool, viewer: str | None) -> str | None:
    if viewer is None or viewer.startswith("did:"):
        return viewer
    handle = viewer.removeprefix("@").lower()
    with pool.connection() as conn:
        did = find_handles(conn, [handle]).get(handle)
    if did is None:
        raise ServiceError(f"no account of the index has the handle {handle}")
    return did


def _make_reader(config: Config, pool: Pool, private: PrivateStore) -> AppView:
    """Return the read side without a network: commands read the index only."""
    return AppView(
        pool=pool,
        private=private,
        vault=private_vault(config),
        engine=make_engine(config, pool),
        cursor_secret=SecretStore(config.home).key("cursors"),
        service_did=config.provider_did,
        resolve_handle=_resolve_nothing,
        fetch_skeleton=_refuse,
        request_crawl=_refuse,
        export_repo=open_export,
        default_labelers=(config.provider_did, *config.subscribed_labelers),
    )


async def _resolve_nothing(handle: str, *, refresh: bool = False) -> str | None:
    return None


async def _refuse(*_: Any, **__: Any) -> Any:
    raise XrpcError("UpstreamFailure", "commands do not reach the network", 502)
