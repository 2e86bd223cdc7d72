"""A small index with posts of many accounts, its drain, and recipes in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from indexer_world import Author, reference
from small_world import SERVICE, did

from feeds.recipes.saving import put_recipe
from feeds.serving.filling import RecipeFiller
from feeds.serving.recipe_matcher import RecipeMatcher
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from indexer.identity import save_handles
from protocol.syntax import TidClock
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from search.matches.match_pass import MatchPass
from search.matches.saved_matcher import SavedMatcher
from storage.postgres.pool import Pool, open_pool
from storage.private.feeds.feed_recipes import PROVIDER, StoredRecipe
from storage.private.private_store import PrivateStore
from storage.records.interning import Interner

NAMES = tuple(f"user{number}" for number in range(12))
POST = "app.bsky.feed.post"
WORDS = ("cat", "dog", "bird", "rain", "tea", "moss", "river", "stone")
RECIPE = """
name = "{name}"
title = "Title"
{top}
[[source]]
{source}
[filter]
{filter}
[rank]
{rank}
"""


def make_recipe(
    source: str = "everything = true",
    *,
    name: str = "feed",
    filter: str = "",
    rank: str = "",
    top: str = "",
    more: str = "",
) -> str:
    """Return the text of a recipe."""
    parts = {"name": name, "source": source, "filter": filter, "rank": rank}
    return RECIPE.format(top=top, **parts) + more


@dataclass
class RecipeWorld:
    """An index that grows by `write`, and the recipes of its provider.

    Writes are applied together with the next drain.
    """

    pool: Pool
    interner: Interner
    private: PrivateStore
    random: Random
    matches: MatchPass
    clock: TidClock
    authors: dict[str, Author] = field(default_factory=dict)
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    posts: list[str] = field(default_factory=list)

    @property
    def engine(self) -> PostgresEngine:
        return PostgresEngine(self.pool)

    def write(
        self,
        name: str,
        collection: str,
        record: dict[str, Any],
        *,
        age: timedelta = timedelta(0),
        rkey: str = "",
    ) -> str:
        """Create or change a record; return its AT-URI."""
        made = (datetime.now(UTC) - age).isoformat()
        path = f"{collection}/{rkey or self.clock.next()}"
        value = {"$type": collection, "createdAt": made, **record}
        self.waiting.setdefault(name, {})[path] = value
        return f"at://{did(name)}/{path}"

    def post(self, name: str, text: str, **fields: Any) -> str:
        at = {key: fields.pop(key) for key in ("age", "rkey") if key in fields}
        uri = self.write(name, POST, {"text": text, **fields}, **at)
        self.posts.append(uri)
        return uri

    def like(self, name: str, uri: str) -> str:
        return self.write(name, "app.bsky.feed.like", {"subject": reference(uri)})

    def repost(self, name: str, uri: str) -> str:
        return self.write(name, "app.bsky.feed.repost", {"subject": reference(uri)})

    def follow(self, name: str, other: str) -> str:
        return self.write(name, "app.bsky.graph.follow", {"subject": did(other)})

    def opt_out(self, name: str) -> str:
        declared = {"hideFromAlgorithmicRecommendations": True}
        nsid = "app.bsky.actor.contentVisibilityDeclaration"
        return self.write(name, nsid, declared, rkey="self")

    def delete(self, uri: str) -> None:
        _, _, owner, collection, rkey = uri.split("/")
        name = next(n for n in NAMES if did(n) == owner)
        path = f"{collection}/{rkey}"
        if self.waiting.get(name, {}).pop(path, None) is None:
            self.waiting.setdefault(name, {})[path] = None

    def apply(self) -> None:
        """Apply what waits, one commit an account."""
        events = [
            self.authors.setdefault(name, Author(did(name), host=0)).commit(writes)
            for name, writes in self.waiting.items()
            if writes
        ]
        self.waiting.clear()
        with self.pool.connection() as conn:
            for event in events:
                apply_batch(conn, self.interner, [event], {}, datetime.now(UTC))

    def drain(self) -> None:
        """Apply what waits, and drain the outbox as the crawl does."""
        self.apply()
        with self.pool.connection() as conn:
            while drain_outbox(conn, self.engine, TEXTS, 500, self.matches.log_matches):
                conn.commit()

    def save(self, text: str, owner: str = PROVIDER) -> StoredRecipe:
        return put_recipe(
            self.private, self.pool.connection, owner, text, service_did=SERVICE
        )

    def fill(self) -> int:
        """Fill the candidates of all recipes."""
        filler = RecipeFiller(self.pool, self.private, self.engine, SERVICE)
        return filler.run(60)


@contextmanager
def open_world(url: str, seed: int = 1) -> Iterator[RecipeWorld]:
    """Open a world on the empty index at `url`, with accounts that have handles."""
    micros = iter(range(round(datetime(2026, 1, 1).timestamp() * 1e6), 2**53, 1000))
    with open_pool(url, max=6) as pool, open_pool(url, max=4) as names:
        private = PrivateStore(names)
        world = RecipeWorld(
            pool,
            Interner(names),
            private,
            Random(seed),
            MatchPass(
                partial(SavedMatcher, private), partial(RecipeMatcher, private, SERVICE)
            ),
            TidClock(1, lambda: next(micros)),
        )
        for name in NAMES:
            world.write(
                name, "app.bsky.actor.profile", {"displayName": name}, rkey="self"
            )
        world.drain()
        with pool.connection() as conn:
            ids = world.interner.actors([did(name) for name in NAMES])
            handles = {ids[did(name)]: f"{name}.test" for name in NAMES}
            save_handles(conn, handles, datetime.now(UTC))
        yield world


__all__ = ["NAMES", "SERVICE", "RecipeWorld", "did", "make_recipe", "open_world"]
