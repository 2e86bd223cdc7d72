"""Pages of threads and accounts: placeholders, deep threads, tabs, previews."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from appview_world import serve_world
from small_world import SERVICE, World, did
from small_world import fill as fill_small
from starlette.applications import Starlette

from network.server.listener import serving_in_thread
from service.web.rendering import public_origin
from service.web.routes import page_routes
from service.web.thread_page import DEPTH, HEIGHT, find_earlier

DEEP = HEIGHT + 5


@dataclass
class Site:
    url: str
    uris: dict[str, str]

    def read(self, path: str, status: int = 200) -> str:
        reply = httpx.get(self.url + path, timeout=20)
        assert reply.status_code == status, reply.text
        return reply.text

    def thread(self, name: str) -> str:
        owner, _, rkey = self.uris[name].removeprefix("at://").split("/")
        return self.read(f"/post/{owner}/{rkey}")


def _fill(world: World) -> dict[str, str]:
    uris = fill_small(world)
    uris["deep 0"] = root = world.post("carol", "deep 0.")
    for number in range(1, DEEP + 1):
        above = uris[f"deep {number - 1}"]
        text = f"deep {number}."
        uris[f"deep {number}"] = world.reply("carol", above, root, text)
    uris["odd"] = world.post("bob", '"><script>alert(1)</script> ' + "w" * 2_000)
    uris["gap"] = world.reply("bob", uris["hidden_reply"], uris["hello"], "below it")
    world.post("bare", "no profile")
    return uris


@pytest.fixture(scope="module")
def site(databases: Any) -> Iterator[Site]:
    url = databases.make("index")
    with serve_world(url, _fill, unnamed={"bare"}) as provider:
        app = Starlette(routes=[*page_routes(provider.app)])
        with serving_in_thread(app) as served:
            yield Site(served, provider.uris)
    databases.drop(url)


def test_deep_thread_continues_by_links(site: Site) -> None:
    page = site.thread("deep 0")
    assert f"deep {DEPTH}." in page
    assert f"deep {DEPTH + 1}." not in page
    rkey = site.uris[f"deep {DEPTH}"].rsplit("/", 1)[1]
    assert f'{rkey}">Continue this thread (1 reply)' in page
    page = site.thread(f"deep {DEEP}")
    assert "deep 0." not in page
    first = site.uris[f"deep {DEEP - HEIGHT - 1}"].rsplit("/", 1)[1]
    assert f'{first}">Earlier posts of this thread' in page
    assert "Earlier posts" not in site.thread(f"deep {HEIGHT}")


def test_missing_posts_have_placeholders(site: Site) -> None:
    page = site.thread("gap")
    assert "This post was deleted" in page
    assert "nobody sees me" not in page


def test_thread_page_has_a_preview(site: Site) -> None:
    page = site.thread("picture")
    assert '<meta property="og:description" content="look">' in page
    assert f'property="og:image" content="{public_origin(SERVICE)}/image/' in page
    assert 'alt="a wombat"' in page
    assert "<summary>ALT</summary>" in page
    page = site.thread("odd")
    assert "<script>alert" not in page
    assert 'content="&#34;&gt;&lt;script&gt;' in page


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("alice", "Hello quokka"),
        ("alice?tab=replies", "Thanks"),
        ("bob?tab=media", "a wombat"),
        ("alice?tab=media", "No pictures yet"),
        ("alice?tab=followers", "I am carol"),
        ("carol?tab=follows", "I am alice"),
        ("bare?tab=follows", "Follows no account yet"),
        ("bare", "no profile"),
        ("bare?tab=followers", "No followers yet"),
        ("alice", 'property="og:title" content="Alice (@alice.test)"'),
    ],
)
def test_profile_tab_shows(site: Site, path: str, text: str) -> None:
    name, _, query = path.partition("?")
    assert text in site.read(f"/profile/{did(name)}?{query}")


def test_profile_posts_have_no_replies(site: Site) -> None:
    assert "Thanks" not in site.read(f"/profile/{did('alice')}")
    site.read(f"/profile/{did('alice')}?tab=likes", 404)


@pytest.mark.parametrize(
    ("service", "origin"),
    [
        ("did:web:example.com", "https://example.com"),
        ("did:web:localhost%3A2584", None),
        ("did:plc:" + "a" * 24, None),
    ],
)
def test_public_origin_is_that_of_a_did_web(service: str, origin: str | None) -> None:
    assert public_origin(service) == origin


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("at://did:web:x.org/app.bsky.feed.post/a", True),
        ("at://did:web:x.org/app.bsky.feed.post/a/b", False),
        ("at://did:web:x.org/app.bsky.feed.post", False),
        ("at://did:web:x.org/app.bsky.feed.like/app.bsky.feed.post", False),
        ("/app.bsky.feed.post/", False),
        (7, False),
        (None, False),
    ],
)
def test_earlier_post_of_an_odd_reply_is_left_out(uri: Any, found: bool) -> None:
    record = {"reply": {"parent": {"uri": uri}}}
    assert find_earlier({"post": {"record": record}}) == (uri if found else None)
    assert find_earlier({"post": {"record": {"reply": [uri]}}}) is None
