"""Recipes in the repos of their authors: records that name this provider.

New records come from the listing of their collection, in walks from the newest to those
of the walk before. An update keeps its place there, so saved recipes are compared with
their records in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from cachetools import LRUCache

from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.recipe_book import parse_stored
from feeds.recipes.saving import put_recipe
from network.errors import XrpcError
from network.server.rate_limit import RateLimit
from protocol.data.cbor import decode_fast
from protocol.errors import ProtocolError
from storage.postgres.pool import Conn, Pool
from storage.private.feeds.feed_recipes import (
    IN_REPO,
    StoredRecipe,
    TooManyRecipesError,
    find_recipe,
    find_recipes_in_repos,
    remove_recipe,
)
from storage.private.private_store import PrivateStore
from storage.records.addresses import (
    Address,
    find_addresses,
    find_collections,
    name_addresses_in,
)
from storage.records.listing import list_records
from storage.records.record_rows import fetch_records

log = structlog.get_logger(__name__)

COLLECTION: Final = "bigworld.feed.recipe"
_PAGE: Final = 200
_SAVES: Final = 60
"""Recipes of one account that are saved in an hour: each may be filled by a search."""
_HOUR_S: Final = 3_600.0
_OVERLAP_US: Final = 60_000_000
"""Microseconds that a walk goes back behind the start of the one before."""


@dataclass(slots=True)
class RecipeRecords:
    """The recipes of other repos as feeds of this provider.

    `read` does the next part of the work: at most a page of records, and as many saved
    recipes.
    """

    pool: Pool
    private: PrivateStore
    service_did: str
    _limit: RateLimit = field(default_factory=lambda: RateLimit(_SAVES, _HOUR_S))
    _after: list[int] | None = None
    """The place of the walk, None at its start."""
    _walk_began: int = 0
    _walked_until: int = 0
    _deferred: bool = False
    """True if the walk met a record of an account over its limit."""
    _checked: int = 0
    """The last saved recipe that was compared."""
    _refused: LRUCache[str, str] = field(default_factory=lambda: LRUCache(10_000))
    """Refused recipes by URI: one is parsed and logged once."""

    def read(self) -> int:
        """Save new and changed recipes, remove those without a record; return their
        number."""
        return self._read_new() + self._compare()

    def _read_new(self) -> int:
        with self.pool.connection() as conn:
            collection = find_collections(conn, {COLLECTION}).get(COLLECTION)
            if collection is None:
                return 0
            page = list_records(conn, collection, limit=_PAGE, after=self._after)
            found = [
                item.address
                for item in page
                if item.address and (item.indexed_us or 0) >= self._walked_until
            ]
            records, uris = _load(conn, found)
        if self._after is None:
            self._walk_began = page[0].indexed_us or 0 if page else 0
        changed = sum(
            self._save(uris[address], value)
            for address, value in records.items()
            if address in uris
        )
        last = page[-1].indexed_us or 0 if page else 0
        if len(page) < _PAGE or last < self._walked_until:
            if not self._deferred:
                self._walked_until = self._walk_began - _OVERLAP_US
            self._after, self._deferred = None, False
        else:
            self._after = page[-1].keyset
        return changed

    def _compare(self) -> int:
        """Compare the next saved recipes with their records."""
        with self.private.read() as conn:
            saved = find_recipes_in_repos(conn, after=self._checked, limit=_PAGE)
        self._checked = saved[-1].id if len(saved) == _PAGE else 0
        if not saved:
            return 0
        with self.pool.connection() as conn:
            held = find_addresses(conn, [_uri(recipe) for recipe in saved])
            records, _ = _load(conn, [*held.values()])
        changed = 0
        for recipe in saved:
            address = held.get(_uri(recipe))
            value = None if address is None else records.get(address)
            if value is None or not self._is_ours(value):
                with self.private.write() as conn:
                    now = datetime.now(UTC)
                    changed += remove_recipe(conn, recipe.owner, recipe.rkey, now)
            elif value["recipe"] != recipe.text:
                changed += self._save(_uri(recipe), value)
        return changed

    def _is_ours(self, value: Mapping[str, Any]) -> bool:
        text = value.get("recipe")
        return value.get("service") == self.service_did and isinstance(text, str)

    def _save(self, uri: str, value: Mapping[str, Any]) -> bool:
        """Save the recipe of a record; return True if something changed."""
        if not self._is_ours(value):
            return False
        owner, _, rkey = uri.removeprefix("at://").split("/", 2)
        text = value["recipe"]
        if self._refused.get(uri) == text:
            return False
        try:
            known = self._find(owner, rkey)
            if known is not None and known.text == text:
                return False
            if parse_stored(text).name != rkey:
                raise InvalidRecipeError("name: it is not the key of the record")
            self._limit.take(owner)
            put_recipe(
                self.private,
                self._open,
                owner,
                text,
                service_did=self.service_did,
                file=IN_REPO,
            )
        except (InvalidRecipeError, TooManyRecipesError) as error:
            # The feed goes on as it was.
            log.info("recipe_refused", uri=uri, error=str(error))
            self._refused[uri] = text
            return False
        except XrpcError:
            self._deferred = True
            return False
        return True

    def _find(self, owner: str, rkey: str) -> StoredRecipe | None:
        with self.private.read() as conn:
            return find_recipe(conn, owner, rkey)

    @contextmanager
    def _open(self) -> Iterator[Conn]:
        with self.pool.connection() as conn:
            yield conn


def _load(
    conn: Conn, addresses: Sequence[Address]
) -> tuple[dict[Address, Mapping[str, Any]], Mapping[Address, str]]:
    """Return records that are objects, and the URIs of all."""
    values: dict[Address, Mapping[str, Any]] = {}
    for address, raw in fetch_records(conn, addresses).items():
        try:
            value = decode_fast(raw)
        except ProtocolError:
            continue
        if isinstance(value, dict):
            values[address] = value
    return values, name_addresses_in(conn, addresses)


def _uri(recipe: StoredRecipe) -> str:
    return f"at://{recipe.owner}/{COLLECTION}/{recipe.rkey}"
