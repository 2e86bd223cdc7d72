"""Posts of a host's accounts, and their rows in the index."""

from __future__ import annotations

from crawl_author import Author, post
from crawl_world import CrawlWorld, FakeHost, rebuild_root


def fill(host: FakeHost, author: Author, count: int, *, tell: bool = True) -> None:
    for n in range(count):
        path = f"app.bsky.feed.post/{author.new_rkey()}"
        author.write([("create", path, post(f"post {n} of {author.did}"))])
        if tell:
            host.send(author.frame)


def texts(world: CrawlWorld) -> int:
    return int(world.query("SELECT count(*) FROM post")[0][0])


def assert_equal(world: CrawlWorld, *authors: Author) -> None:
    """Assert that the roots rebuilt from the rows are the authors' own."""
    with world.pool.connection() as conn:
        for author in authors:
            assert rebuild_root(conn, author.did) == author.data
