"""One account with one post for each scenario of labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from appview_world import Provider, RefusedError
from labeler_world import Labeler
from small_world import World, did

WRITERS = 60
POSTS = "app.bsky.feed.getPosts"
SPOILER = {
    "$type": "com.atproto.label.defs#selfLabels",
    "values": [{"val": "spoiler"}],
}


def fill(world: World) -> dict[str, str]:
    uris = {}
    for number in range(WRITERS):
        name = f"writer{number}"
        profile = {"displayName": f"Wombat {number}", "labels": SPOILER}
        world.write(name, "app.bsky.actor.profile", profile, "self")
        post = world.post(name, f"numbat wombat{number}", labels=SPOILER)
        uris[name] = post
        uris[f"{name} quote"] = world.quote(f"reader{number}", post)
        uris[f"{name} reply"] = world.reply(f"reader{number}", post)
        world.follow("viewer", name)
        uris[f"{name} list"] = world.write(
            name,
            "app.bsky.graph.list",
            {"name": "a list", "purpose": "app.bsky.graph.defs#curatelist"},
        )
        uris[f"{name} list quote"] = world.quote(
            f"reader{number}", uris[f"{name} list"]
        )
    return uris


@dataclass
class Scenario:
    """A writer whose account and post get labels, and questions about them."""

    provider: Provider
    number: int
    first: Labeler
    second: Labeler

    @property
    def account(self) -> str:
        return did(f"writer{self.number}")

    @property
    def post(self) -> str:
        return self.provider.uris[f"writer{self.number}"]

    @property
    def version(self) -> str:
        return self.provider.world.reference(self.post)["cid"]

    def of(self, kind: str) -> str:
        return self.provider.uris[f"writer{self.number} {kind}"]

    def get(self, nsid: str, accept: str | None = None, **params: Any) -> Any:
        return self.provider.get(nsid, headers=_header(accept), **params)

    def header(self, accept: str | None = None) -> str | None:
        """Return the labelers that an answer names."""
        _, headers = self.provider.ask(
            "app.bsky.actor.getProfile", actor=self.account, headers=_header(accept)
        )
        return headers["atproto-content-labelers"]

    def view(self, accept: str | None = None) -> Any:
        """Return the view of the post, None if it is hidden."""
        posts = self.get(POSTS, accept, uris=self.post)["posts"]
        return posts[0] if posts else None

    def vals(self, accept: str | None = None) -> list[str]:
        """Return the labels of labelers on the post."""
        return [
            label["val"]
            for label in self.view(accept)["labels"]
            if label["src"] != self.account
        ]

    def places(self, accept: str | None = None) -> set[str]:
        """Return the places that show the post."""
        q = f"wombat{self.number}"
        get, pages = self.get, self.provider.pages
        feed = f"at://{self.provider.app.service_did}/app.bsky.feed.generator/"
        more = {"headers": _header(accept), "viewer": "viewer", "limit": 50}
        unspecced = "app.bsky.unspecced"
        asked: dict[str, Callable[[], Any]] = {
            "posts": lambda: get(POSTS, accept, uris=self.post),
            "search": lambda: get("app.bsky.feed.searchPosts", accept, q=q),
            "search v2": lambda: get("app.bsky.feed.searchPostsV2", accept, query=q),
            "skeleton": lambda: get(f"{unspecced}.searchPostsSkeleton", accept, q=q),
            "records": lambda: get("bigworld.search.searchRecords", accept, q=q),
            "author feed": lambda: get(
                "app.bsky.feed.getAuthorFeed", accept, actor=self.account
            ),
            "following": lambda: pages(
                "app.bsky.feed.getFeed", "feed", feed=f"{feed}following", **more
            ),
            "latest": lambda: pages(
                "app.bsky.feed.getFeed", "feed", feed=f"{feed}latest", **more
            ),
            "thread": lambda: get("app.bsky.feed.getPostThread", accept, uri=self.post),
            "parent": lambda: get(
                "app.bsky.feed.getPostThread", accept, uri=self.of("reply")
            ),
            "quote": lambda: get(POSTS, accept, uris=self.of("quote")),
        }
        return {place for place, ask in asked.items() if self._is_in(ask)}

    def _is_in(self, ask: Callable[[], Any]) -> bool:
        try:
            return _holds(ask(), self.post)
        except RefusedError as error:
            if error.status != 400:
                raise
            return False


def _holds(value: Any, uri: str) -> bool:
    """Return True if an answer shows a post, not only a reference or its absence."""
    if isinstance(value, list):
        return any(_holds(inner, uri) for inner in value)
    if not isinstance(value, dict):
        return False
    if value.get("uri") == uri:
        return value.get("notFound") is not True
    # The record of another post holds references.
    skipped = ("record", "value") if "author" in value else ()
    return any(_holds(v, uri) for k, v in value.items() if k not in skipped)


def _header(accept: str | None) -> Mapping[str, str]:
    return {} if accept is None else {"atproto-accept-labelers": accept}


def scenarios(
    provider: Provider, first: Labeler, second: Labeler
) -> Iterator[Scenario]:
    """Yield a fresh writer again and again."""
    for number in itertools.count():
        yield Scenario(provider, number, first, second)
