"""Read access to posts for algorithms that hold no connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from feeds.for_you.co_likes import CoLikes
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.saving import prepare_recipe
from feeds.serving.filling import BATCH, search_batch
from feeds.serving.post_facts import POST
from feeds.serving.recipe_feed import RecipeFeed
from feeds.skeleton import FeedRequest, ViewerRequiredError
from indexer.collections.texts import TEXTS
from protocol.syntax import is_at_uri
from search.documents import RecordDocument
from search.engines.contract import SearchEngine, TooCostlyError
from search.record_documents import load_accounts, load_documents
from storage.collections import FEED_POST
from storage.postgres.pool import Conn, Pool
from storage.private.private_store import PrivateStore
from storage.records.addresses import Address, find_actors, find_addresses

_TIMEOUT_MS: Final = 2_000


class RefusedReadError(Exception):
    """Posts that cannot be read, with the reason."""


@dataclass(frozen=True, slots=True)
class ReadAccess:
    """The posts of searches and of recipes of the provider.

    Each call holds one connection at a time. Raises RefusedReadError.
    """

    pool: Pool
    private: PrivateStore
    engine: SearchEngine
    service_did: str
    find_recipe: Callable[[str], RecipeFeed | None]
    co_likes: CoLikes | None = None

    def search(self, query: str, limit: int) -> list[RecordDocument]:
        """Return the newest posts that match a query, as a source of a recipe does."""
        source = {"name": "search", "title": "Search", "source": [{"search": query}]}
        found: list[RecordDocument] = []
        try:
            compiled = prepare_recipe(
                self.private, self._open, self.service_did, json.dumps(source)
            )
            oldest = datetime.now(UTC) - compiled.recipe.window
            after: list[Any] | None = None
            while len(found) < limit:
                batch = search_batch(
                    self.pool, self.engine, compiled.matched[0], oldest, after, BATCH
                )
                found += batch.documents
                after = batch.after
                if after is None:
                    break
        except InvalidRecipeError as error:
            raise RefusedReadError(f"search {query[:80]!r}: {error.reason}") from error
        except (TooCostlyError, psycopg.errors.QueryCanceled) as error:
            raise RefusedReadError(f"search {query[:80]!r} takes too long") from error
        return found[:limit]

    def recipe(self, name: str, viewer: str | None, limit: int) -> list[RecordDocument]:
        """Return the first posts of a recipe, for a reader by DID."""
        feed = self.find_recipe(name)
        if feed is None:
            raise RefusedReadError(f"there is no recipe {name[:80]!r}")
        try:
            with self._open() as conn:
                actor = find_actors(conn, [viewer]).get(viewer) if viewer else None
                request = FeedRequest(actor, limit, co_likes=self.co_likes)
                entries = feed.build(conn, request)
                return _load(conn, [entry.item.post for entry in entries])
        except ViewerRequiredError as error:
            raise RefusedReadError(f"recipe {name}: {error}") from error
        except psycopg.errors.QueryCanceled as error:
            raise RefusedReadError(f"recipe {name} takes too long") from error

    def find_posts(self, uris: Collection[str]) -> dict[str, Address]:
        """Return the addresses of posts that the index knows, by AT-URI."""
        posts = {uri for uri in uris if _names_post(uri)}
        if not posts:
            return {}
        with self._open() as conn:
            found = find_addresses(conn, posts)
        return {uri: a for uri, a in found.items() if a.collection == POST}

    @contextmanager
    def _open(self) -> Iterator[Conn]:
        with self.pool.connection() as conn:
            conn.execute(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}")
            yield conn


def _names_post(uri: str) -> bool:
    parts = uri.split("/")
    return len(parts) == 5 and parts[3] == FEED_POST and is_at_uri(uri)


def _load(conn: Conn, posts: Sequence[Address]) -> list[RecordDocument]:
    """Return posts in the given order, without those that are gone."""
    wanted = [post for post in dict.fromkeys(posts) if post.collection == POST]
    accounts = load_accounts(conn, {post.actor for post in wanted})
    found = {d.address: d for d in load_documents(conn, TEXTS, wanted, accounts)}
    return [found[post] for post in wanted if post in found]
