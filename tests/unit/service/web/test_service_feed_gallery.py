"""The gallery of feeds: authors, first posts, statistics, and faults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from recipe_world import SERVICE, RecipeWorld, did, make_recipe, open_world
from script_world import PATIENT, serve_scripts
from starlette.applications import Starlette

from appview.app import AppView
from network.server.listener import serving_in_thread
from service.web import feed_pages
from service.web.routes import page_routes
from storage.private.feeds.feed_hours import FeedHour, add_hours

GENERATOR = "app.bsky.feed.generator"
FAULTY = "def feed(request): raise ValueError('<script>alert(1)</script>')"


class Site:
    """The pages of a world."""

    def __init__(self, url: str, app: AppView, world: RecipeWorld) -> None:
        self.url = url
        self.app = app
        self.world = world

    def get(self, path: str, status: int = 200) -> str:
        reply = httpx.get(self.url + path, timeout=120)
        assert reply.status_code == status, reply.text
        return reply.text

    def names(self, path: str = "/feeds") -> list[str]:
        """Return the paths of the feeds on a page."""
        return re.findall(r'<h2><a href="(/feed/[^"]+)"', self.get(path))


@pytest.fixture
def site(index_db: str, tmp_path: Path) -> Iterator[Site]:
    with open_world(index_db) as world:
        for number in range(5):
            world.post("user1", f"heron <b>{number}</b>")
        world.drain()
        world.save(make_recipe('search = "heron"', name="herons"))
        world.save(make_recipe('search = "wren"', name="empty"))
        world.save(
            make_recipe('search = "heron"', name="hosted").replace("Title", "Ho<i>st"),
            owner=did("user2"),
        )
        world.fill()
        (tmp_path / "faulty.py").write_text(FAULTY)
        with serve_scripts(world, tmp_path, PATIENT) as scripts:
            scripts.book.refresh()
            pages = Starlette(routes=[*page_routes(scripts.app)])
            with serving_in_thread(pages) as url:
                yield Site(url, scripts.app, world)


def test_gallery_shows_feeds_with_their_first_posts(site: Site) -> None:
    hosted = f"/feed/{did('user2')}/hosted"
    assert site.names() == [
        "/feed/empty", "/feed/faulty", "/feed/following", "/feed/for-you",
        "/feed/herons", "/feed/latest", "/feed/popular", hosted,
    ]  # fmt: skip
    body = site.get("/feeds")
    assert "heron &lt;b&gt;4&lt;/b&gt;" in body
    assert "Ho&lt;i&gt;st" in body
    assert "<b>4" not in body
    assert "Personal: sign in" in body
    assert "the feed faulty failed: line 1: ValueError: &lt;script&gt;" in body
    assert f'<a href="/profile/{did("user2")}">{did("user2")}</a>' in body
    assert "heron" in site.get(hosted)
    assert "No posts yet" in site.get("/feed/empty")
    assert "the feed faulty failed" in site.get("/feed/faulty", 503)
    # Pages of the gallery are no pages of readers.
    counted = {hour.feed.rsplit("/", 1)[1] for hour in site.app.feed_counters.take()}
    assert counted == {"hosted", "empty", "faulty"}


def test_gallery_names_the_author_of_a_published_record(site: Site) -> None:
    record = {"did": SERVICE, "displayName": "Of user2"}
    site.world.write("user2", GENERATOR, record, rkey="hosted")
    site.world.drain()
    assert "@user2.test" in site.get("/feeds")
    elsewhere = {"did": "did:web:other.example.com", "displayName": "Elsewhere"}
    site.world.write("user2", GENERATOR, elsewhere, rkey="hosted")
    site.world.drain()
    assert not [path for path in site.names() if path.endswith("/hosted")]
    site.get(f"/feed/{did('user2')}/hosted", 404)


def test_gallery_shows_statistics_of_a_day(site: Site) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    counted = FeedHour(f"at://{SERVICE}/{GENERATOR}/herons", hour, pages=41)
    counted.latency[3] = 41
    for reader in range(7):
        counted.readers.add(reader * 2**57)
    with site.app.private.write() as conn:
        add_hours(conn, [counted])
    body = site.get("/feeds")
    assert "41 pages" in body
    assert "99 % within 10 ms" in body
    assert f"{counted.readers.count()} readers" in body


def test_gallery_has_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    every = site.names()
    monkeypatch.setattr(feed_pages, "GALLERY", 3)
    seen: list[str] = []
    path = "/feeds"
    while path:
        seen += site.names(path)
        more = re.search(r'href="([^"]+)" rel="next"', site.get(path))
        path = f"/feeds{more[1]}" if more else ""
    assert seen == every
    assert site.names("/feeds?cursor=zzz/zzz") == []
    assert site.names("/feeds?cursor=/herons") == every[5:8]


@pytest.mark.parametrize(
    "path", ["/feed/did:plc:x/herons", "/feed/a%20b/herons", "/feed/did:plc:x/%00"]
)
def test_unknown_feed_is_a_404_page(site: Site, path: str) -> None:
    assert "Back to search" in site.get(path, 404)
