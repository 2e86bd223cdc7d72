"""Scopes, and accounts for them."""

from __future__ import annotations

from typing import Any

from crawl_author import Author, post
from crawl_world import CrawlWorld, FakeHost

from storage.repos.scope_rows import ScopeKind, set_scope

FOLLOW = "app.bsky.graph.follow"
POST = "app.bsky.feed.post"
BLOG = "com.example.blog.entry"
DATE = "2026-01-01T00:00:00.000Z"


def follow(who: Author) -> dict[str, Any]:
    return {"$type": FOLLOW, "subject": who.did, "createdAt": DATE}


def choose(world: CrawlWorld, kind: str, *seeds: Author, **more: Any) -> None:
    with world.pool.connection() as conn:
        set_scope(conn, ScopeKind(kind), seeds=[a.did for a in seeds], **more)


def people(world: CrawlWorld, host: FakeHost, count: int) -> list[Author]:
    authors = [world.add_author(n, host) for n in range(count)]
    for author in authors:
        author.write([("create", f"{POST}/before", post("before"))])
    return authors
