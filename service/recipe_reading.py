"""Feeds read by commands: previews, explanations and backtests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appview.app import AppView
from appview.session import RequestContext
from appview.shapes.feed import prepare_feed
from appview.shapes.feed_preview import FEED, SKELETON, preview_feed, preview_skeleton
from feeds.recipes.compiling import CompiledRecipe
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.saving import prepare_recipe
from feeds.registry import FEEDS
from feeds.scripts.script_book import name_fault, read_script
from feeds.scripts.script_explaining import explain_no_posts, explain_place
from feeds.scripts.script_feed import ScriptFeed, shared_runs
from feeds.serving.backtest import BacktestDay, backtest
from feeds.serving.drafts import draft_feed
from feeds.serving.explaining import Explanation, explain_empty, explain_post
from feeds.serving.recipe_feed import RecipeFeed
from feeds.skeleton import (
    Algorithm,
    FeedFailedError,
    Ranking,
    ViewerRequiredError,
)
from indexer.repos.export import open_export
from network.xrpc.server import XrpcError
from search.engines.contract import TooCostlyError
from service.operator_errors import ServiceError
from service.recipe_files import read_text, recipe_folder
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
class OpenFeed(ABC):
    """A feed with the index that it reads. `viewer` is a DID."""

    app: AppView
    viewer: str | None

    @property
    @abstractmethod
    def algorithm(self) -> Algorithm:
        """Return the feed as it is served."""

    @abstractmethod
    def explain(self, uri: str) -> Explanation:
        """Explain a post."""

    @abstractmethod
    def explain_empty(self) -> list[str]:
        """Return why the feed has no posts; empty if it has some."""

    @abstractmethod
    def backtest(self, days: int) -> list[BacktestDay]:
        """Replay the past days. Raises ServiceError."""

    @property
    def uri(self) -> str:
        """Return the AT-URI of the feed under the provider's DID."""
        return f"at://{self.app.service_did}/{FEED_GENERATOR}/{self.algorithm.name}"

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
            return run(context, self.algorithm, params)
        except XrpcError as error:
            raise ServiceError(error.message) from error

    def find_viewer(self) -> int | None:
        """Return the account of the viewer. Raises ServiceError."""
        if self.viewer is None:
            return None
        with self.app.pool.connection() as conn:
            found = find_actors(conn, [self.viewer]).get(self.viewer)
        if found is None:
            raise ServiceError(f"the index does not know {self.viewer}")
        return found


@dataclass(frozen=True, slots=True)
class OpenRecipe(OpenFeed):
    """A recipe. `stored`: its candidates are stored."""

    feed: RecipeFeed
    stored: bool

    @property
    def algorithm(self) -> Algorithm:
        return self.feed.algorithm

    def explain(self, uri: str) -> Explanation:
        viewer = self.find_viewer()
        with self.app.pool.connection() as conn:
            conn.execute(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}")
            return explain_post(conn, self.feed, uri, viewer, stored=self.stored)

    def explain_empty(self) -> list[str]:
        viewer = self.find_viewer()
        with self.app.pool.connection() as conn:
            return explain_empty(conn, self.feed, viewer, stored=self.stored)

    def backtest(self, days: int) -> list[BacktestDay]:
        viewer = self.find_viewer()
        with self.app.pool.connection() as conn:
            try:
                return backtest(conn, self.feed, viewer, days)
            except ViewerRequiredError as error:
                raise ServiceError(f"{error}: name one with --viewer") from error


@dataclass(frozen=True, slots=True)
class OpenScript(OpenFeed):
    """A feed in Python."""

    feed: ScriptFeed

    @property
    def algorithm(self) -> Algorithm:
        return self.feed.algorithm

    def explain(self, uri: str) -> Explanation:
        viewer = self.find_viewer()
        ranking = self._rank()
        if isinstance(ranking, str):
            return Explanation(None, (ranking,))
        with self.app.pool.connection() as conn:
            return explain_place(conn, ranking, uri, viewer)

    def explain_empty(self) -> list[str]:
        viewer = self.find_viewer()
        ranking = self._rank()
        if isinstance(ranking, str):
            return [ranking]
        with self.app.pool.connection() as conn:
            return explain_no_posts(conn, ranking, viewer)

    def backtest(self, days: int) -> list[BacktestDay]:
        raise ServiceError("a Python file reads the present: it has no backtest")

    def _rank(self) -> Ranking | str:
        """Return the ranking, or the reason why there is none."""
        context = RequestContext(self.app, SKELETON, self.viewer)
        try:
            prepare_feed(context, self.algorithm, {"feed": self.uri})
        except FeedFailedError as error:
            return str(error)
        except XrpcError as error:
            return error.message
        assert context.ranking is not None
        return context.ranking


@contextmanager
def open_feed(
    config: Config, name: str, viewer: str | None = None
) -> Iterator[OpenFeed]:
    """Open a recipe, a Python file, or a feed of the provider by its name.

    `viewer` is a DID or handle. Raises ServiceError.
    """
    with (
        open_existing(config, INDEX, start=True) as url,
        open_database(config, PRIVATE) as private_url,
        open_pool(url, max=4) as pool,
        open_pool(private_url, max=2) as private_pool,
    ):
        app = _make_reader(config, pool, PrivateStore(private_pool))
        did = _viewer_did(pool, viewer)
        script = _find_script(config, name)
        if script is not None:
            with _open_script(script) as feed:
                yield OpenScript(app, did, feed)
            return
        try:
            compiled = _prepare(app, _find_text(app, name))
            recipe, stored = draft_feed(pool, app.engine, compiled, app.feeds.shared)
        except InvalidRecipeError as error:
            raise ServiceError(f"{name}: {error}") from error
        except TooCostlyError as error:
            raise ServiceError(f"the search takes too long: {error}") from error
        yield OpenRecipe(app, did, recipe, stored)


def _find_script(config: Config, name: str) -> Path | None:
    """Return a Python file, or that of a feed in the folder."""
    if Path(name).suffix == ".py":
        return Path(name)
    if Path(name).is_file() or name_fault(name):
        return None
    path = recipe_folder(config) / f"{name}.py"
    return path if path.is_file() else None


@contextmanager
def _open_script(path: Path) -> Iterator[ScriptFeed]:
    """Load a file, which prints to the standard error of the command."""
    try:
        feed = ScriptFeed(path.absolute(), read_script(path), shared_runs(output=2))
    except (OSError, ValueError) as error:
        raise ServiceError(f"{path} is not readable: {error}") from error
    try:
        if not feed.load():
            raise ServiceError(f"{path}: {feed.error}")
        yield feed
    finally:
        feed.retire()


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
