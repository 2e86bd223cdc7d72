"""The feeds that a provider serves now: built-in ones, recipes and Python files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from time import monotonic
from typing import Final

import psycopg

from feeds.algorithms.popular import held_feed
from feeds.recipes.recipe_book import KnownRecipe, RecipeBook
from feeds.registry import FEEDS
from feeds.scripts.script_book import KnownScript, ScriptBook
from feeds.scripts.script_feed import ScriptFeed
from feeds.serving.recipe_feed import RecipeFeed, Shared
from feeds.skeleton import Algorithm
from storage.private.feeds.feed_recipes import PROVIDER
from storage.private.private_store import PrivateStore

log = logging.getLogger(__name__)

CHECK_EVERY_S: Final = 1.0
"""Seconds after which a process looks for changed recipes."""


@dataclass(frozen=True, slots=True)
class ServedFeed:
    """A feed as it is served; a built-in one has neither `recipe` nor `script`.

    `saved_at` is the time of its last change, None for a built-in one.
    """

    algorithm: Algorithm
    recipe: RecipeFeed | None = None
    saved_at: datetime | None = None
    script: ScriptFeed | None = None


@dataclass(frozen=True, eq=False)
class FeedSet:
    """All feeds at one time: those of the provider by key, others by owner and key."""

    own: Mapping[str, ServedFeed]
    others: Mapping[tuple[str, str], ServedFeed] = field(default_factory=dict)

    @cached_property
    def keys(self) -> list[tuple[str, str]]:
        """Return owner and key of all feeds in order; own feeds come first, as ''."""
        return [*(("", rkey) for rkey in sorted(self.own)), *sorted(self.others)]

    def find(self, owner: str, rkey: str, service_did: str) -> ServedFeed | None:
        """Return a feed of an account, None if it is not served.

        An account may publish a feed that is built in or a Python file.
        """
        own = self.own.get(rkey)
        if owner == service_did:
            return own
        other = self.others.get((owner, rkey))
        return other or (None if own is None or own.recipe is not None else own)

    def find_recipe(self, rkey: str) -> RecipeFeed | None:
        """Return a recipe of the provider, None if there is none."""
        own = self.own.get(rkey)
        return None if own is None else own.recipe


_NO_SCRIPTS: Final[Mapping[str, KnownScript]] = {}
BUILT_IN: Final = {name: ServedFeed(feed) for name, feed in FEEDS.items()}


class ServedFeeds:
    """The feeds in memory, read again when a recipe has changed.

    While the private database is away the last known ones hold.
    """

    def __init__(
        self, every_s: float = CHECK_EVERY_S, scripts: ScriptBook | None = None
    ) -> None:
        self.shared = Shared()
        self.scripts = scripts
        popular = ServedFeed(held_feed())
        self._built_in = BUILT_IN | {popular.algorithm.name: popular}
        self._every_s = every_s
        self._lock = threading.Lock()
        self._book: RecipeBook | None = None
        self._feeds: dict[int, RecipeFeed] = {}
        self._known: FeedSet | None = None
        self._checked_at = 0.0
        self._served_scripts = _NO_SCRIPTS

    def current(self, private: PrivateStore, service_did: str) -> FeedSet:
        """Return the feeds. Call it while no connection of the index is held."""
        known = self._known
        if known is not None and monotonic() - self._checked_at < self._every_s:
            return known
        # Only the first readers wait; later ones go on with what is known.
        if not self._lock.acquire(blocking=known is None):
            return known or FeedSet(self._built_in)
        try:
            if monotonic() - self._checked_at >= self._every_s or self._known is None:
                self._known = self._load(private, service_did)
                self._checked_at = monotonic()
            return self._known
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Read the recipes again with the next request."""
        self._checked_at = -self._every_s

    def _load(self, private: PrivateStore, service_did: str) -> FeedSet:
        if self._book is None:
            self._book = RecipeBook(service_did)
        try:
            changed = self._book.refresh(private)
        except psycopg.Error:
            log.exception("recipes_unknown")
            return self._known or FeedSet(self._built_in)
        # The mapping is another one after each change.
        scripts = _NO_SCRIPTS if self.scripts is None else self.scripts.scripts
        is_same = scripts is self._served_scripts
        if not changed and is_same and self._known is not None:
            return self._known
        self._served_scripts = scripts
        for number in changed:
            self._feeds.pop(number, None)
        served = {
            (known.stored.owner, known.stored.rkey): self._serve(number, known)
            for number, known in sorted(self._book.recipes.items())
        }
        own = {
            rkey: feed for (owner, rkey), feed in served.items() if owner == PROVIDER
        }
        others = {key: feed for key, feed in served.items() if key[0] != PROVIDER}
        files = {
            name: ServedFeed(known.feed.algorithm, None, known.saved_at, known.feed)
            for name, known in scripts.items()
        }
        # The name of a built-in feed cannot be taken, nor that of a recipe.
        return FeedSet({**files, **own, **self._built_in}, others)

    def _serve(self, number: int, known: KnownRecipe) -> ServedFeed:
        if number not in self._feeds:
            self._feeds[number] = RecipeFeed(known.compiled, self.shared)
        feed = self._feeds[number]
        return ServedFeed(feed.algorithm, feed, known.stored.saved_at)
