"""The folder of recipes: files are read into the private database as they change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.parsing import parse_recipe
from feeds.recipes.recipe import MAX_RECIPE_BYTES
from feeds.recipes.saving import put_recipe
from feeds.registry import FEEDS
from feeds.serving.filling import RecipeFiller
from search.engines.contract import SearchEngine
from service.recipe_records import RecipeRecords
from service.runtime.config import Config
from storage.postgres.pool import Conn, Pool
from storage.private.feeds.feed_recipes import PROVIDER, find_recipes, remove_recipe
from storage.private.private_store import PrivateStore

log = structlog.get_logger(__name__)

MAX_FILES: Final = 2_000
_FILL_S: Final = 5.0


def recipe_folder(config: Config) -> Path:
    """Return the folder of recipes."""
    return config.feeds or config.home / "feeds.d"


@dataclass(frozen=True, slots=True)
class RecipeFiles:
    """The recipes of a folder as feeds of the provider.

    `read` stores new and changed files, and removes the feeds of files that are gone.
    """

    folder: Path
    pool: Pool
    private: PrivateStore
    service_did: str

    def read(self) -> dict[str, str]:
        """Read the folder; return the errors by file name."""
        with self.private.read() as conn:
            stored = {r.file: r for r in find_recipes(conn, PROVIDER) if r.file}
        errors: dict[str, str] = {}
        paths = sorted(self.folder.glob("*.toml"))[:MAX_FILES]
        for path in paths:
            known = stored.pop(path.name, None)
            try:
                text = read_text(path)
                if known is not None and known.text == text:
                    continue
                check_name(text)
                if known is not None and parse_recipe(text).name != known.rkey:
                    self._remove(known.rkey)
                put_recipe(
                    self.private,
                    self._open,
                    PROVIDER,
                    text,
                    service_did=self.service_did,
                    file=path.name,
                )
            except (InvalidRecipeError, OSError) as error:
                # The feed goes on as it was.
                errors[path.name] = str(error)
        for gone in stored.values():
            self._remove(gone.rkey)
        return errors

    def _remove(self, rkey: str) -> None:
        with self.private.write() as conn:
            remove_recipe(conn, PROVIDER, rkey, datetime.now(UTC))

    @contextmanager
    def _open(self) -> Iterator[Conn]:
        with self.pool.connection() as conn:
            yield conn


def read_text(path: Path) -> str:
    """Return the text of a recipe file. Raises InvalidRecipeError or OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_RECIPE_BYTES + 1)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRecipeError("the file is not valid UTF-8") from None


def check_name(text: str) -> None:
    """Raise InvalidRecipeError if the name of a recipe is that of a built-in feed."""
    name = parse_recipe(text).name
    if name in FEEDS:
        raise InvalidRecipeError(f"name: {name} is a built-in feed")


class RecipeTask:
    """The scheduled task of recipes: the folder, records, then new candidates."""

    def __init__(
        self, config: Config, pool: Pool, private: PrivateStore, engine: SearchEngine
    ) -> None:
        did = config.provider_did
        self._files = RecipeFiles(recipe_folder(config), pool, private, did)
        self._records = RecipeRecords(pool, private, did)
        self._filler = RecipeFiller(pool, private, engine, did)
        self._logged: dict[str, str] = {}

    def run(self) -> int:
        """Read folder and records, fill for some seconds; return the batches."""
        errors = self._files.read()
        for name, error in errors.items():
            if self._logged.get(name) != error:
                log.warning("recipe_refused", file=name, error=error)
        self._logged = errors
        self._records.read()
        return self._filler.run(_FILL_S)
