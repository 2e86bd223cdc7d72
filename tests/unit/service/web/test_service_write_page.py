"""The page on which a recipe is written: preview, faults, explanations, limits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import quote

import httpx
import pytest
from appview_world import serve_index
from recipe_world import RecipeWorld, make_recipe, open_world
from starlette.applications import Starlette

from network.server.listener import serving_in_thread
from search.engines.contract import TooCostlyError
from service.web import write_page
from service.web.routes import page_routes
from service.web.write_page import EXAMPLE, PREVIEWS

HERONS = make_recipe('search = "heron"', name="herons")
HOSTILE = '</textarea><script>alert(1)</script> name = "<img src=x onerror=alert(1)>"'


class Site:
    """The pages of a world."""

    def __init__(self, url: str, world: RecipeWorld) -> None:
        self.url = url
        self.world = world

    def post(self, status: int = 200, **fields: str) -> str:
        reply = httpx.post(f"{self.url}/feeds/write", data=fields, timeout=120)
        assert reply.status_code == status, reply.text
        return reply.text

    def get(self) -> httpx.Response:
        return httpx.get(f"{self.url}/feeds/write", timeout=120)


@pytest.fixture
def site(index_db: str) -> Iterator[Site]:
    with open_world(index_db) as world:
        for number in range(4):
            age = timedelta(hours=number)
            world.post("user1", f"heron <b>{number}</b>", age=age)
        world.post("user2", "a wren", age=timedelta(hours=9))
        world.drain()
        with serve_index(world.pool, world.private.pool) as (_, app):
            pages = Starlette(routes=[*page_routes(app)])
            with serving_in_thread(pages) as url:
                yield Site(url, world)


def test_page_shows_an_example_that_is_valid(site: Site) -> None:
    reply = site.get()
    assert reply.status_code == 200
    assert "search = &#34;heron OR kingfisher&#34;" in reply.text
    assert "Press “Preview”" in reply.text
    # Without a referrer, browsers send no origin with the form.
    assert reply.headers["referrer-policy"] == "same-origin"
    assert 'class="problem"' not in site.post(recipe=EXAMPLE)


def test_preview_shows_what_is_served_and_how_to_publish_it(site: Site) -> None:
    body = site.post(recipe=HERONS.replace("\n", "\r\n"))
    places = [body.index(f'value="{uri}"') for uri in site.world.posts[:4]]
    assert places == sorted(places)
    assert "heron &lt;b&gt;3&lt;/b&gt;" in body
    assert site.world.posts[4] not in body
    assert "./bigworld feed publish herons.toml" in body
    assert "--provider https://provider.example.com" in body


def test_each_post_is_explained(site: Site) -> None:
    heron, wren = site.world.posts[1], site.world.posts[4]
    body = site.post(recipe=HERONS, explain=heron)
    assert "✓ In the feed</span>, at rank 2" in body
    assert "sources that found it: source 1" in body
    page = "/post/" + "/".join(wren.removeprefix("at://").split("/")[::2])
    for asked in (wren, site.url + page, f"https://example.com{page}"):
        body = site.post(recipe=HERONS, ask=asked)
        assert "Not in the feed" in body
        assert "no source finds it" in body
    # The button of a post goes before an earlier text.
    assert "at rank 2" in site.post(recipe=HERONS, explain=heron, ask=wren)


@pytest.mark.parametrize(
    "asked",
    ["nothing", "at://x", "at://did:plc:x/a.b.c/\0", "<script>", "/post/%00/x", "[::"],
)
def test_odd_post_is_explained_too(site: Site, asked: str) -> None:
    body = site.post(recipe=HERONS, ask=asked)
    assert "Not in the feed" in body
    assert "<script>" not in body.replace("<script src", "")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (HERONS.replace("[filter]", "[filter]\nreplise = 'no'"), 8, "did you mean"),
        ("name = [", 1, "not valid TOML"),
        (HERONS.replace('"heron"', '"min_likes:3"'), 6, "source 1, search"),
        ("", None, "name is missing"),
        (HERONS.replace('"herons"', '"popular"'), None, "built-in"),
        (make_recipe("accounts = ['no.example']"), None, "no.example"),
        ("x = '\0'", 1, "not valid TOML"),
        ("a" * 70_000, None, "over 65536 bytes"),
        (HOSTILE, 1, "not valid TOML"),
    ],
)
def test_fault_is_shown_with_its_line(
    site: Site, text: str, line: int | None, reason: str
) -> None:
    body = site.post(recipe=text)
    problem = body.split('id="problem"')[1].split("</section>")[0]
    assert reason in problem
    assert (f"<b>Line {line}</b>" in problem) == (line is not None)
    assert "feed publish" not in body
    # The text is there again, and nothing of it is markup.
    assert "<script>alert" not in body
    assert "<img src=x" not in body
    assert body.count("</textarea>") == 1


def test_hostile_texts_in_a_valid_recipe_are_escaped(site: Site) -> None:
    text = make_recipe(
        "search = 'heron'\nname = '<script>alert(1)</script>'",
        top="description = '<img src=x>'",
    )
    body = site.post(recipe=text, explain=site.world.posts[0])
    assert "at rank 1" in body
    assert "&lt;script&gt;alert(1)" in body
    assert "<script>alert" not in body
    assert "<img src=x" not in body


def test_empty_preview_says_why(site: Site) -> None:
    body = site.post(recipe=make_recipe('search = "axolotl"'))
    assert "no post of the window matches" in body
    body = site.post(recipe=make_recipe('search = "heron"', filter="min_likes = 5"))
    assert "left out by min_likes = 5: 4" in body
    body = site.post(recipe=make_recipe("follows = true"))
    assert "this feed needs a signed-in account" in body
    assert "./bigworld feed publish" in body


def test_saved_searches_of_the_provider_are_not_shown(site: Site) -> None:
    body = site.post(recipe=make_recipe("saved_search = 1"))
    assert "no post of the window matches" in body


def test_recipe_is_saved_as_a_file(site: Site) -> None:
    fields = {"recipe": HERONS.replace("\n", "\r\n"), "action": "download"}
    reply = httpx.post(f"{site.url}/feeds/write", data=fields, timeout=60)
    assert reply.text == HERONS
    assert 'filename="herons.toml"' in reply.headers["content-disposition"]
    fields["recipe"] = "<script>"
    reply = httpx.post(f"{site.url}/feeds/write", data=fields, timeout=60)
    assert reply.headers["content-type"].startswith("text/plain")
    assert 'filename="recipe.toml"' in reply.headers["content-disposition"]


def test_forms_of_other_sites_and_large_ones_are_refused(site: Site) -> None:
    url = f"{site.url}/feeds/write"
    headers = {"origin": "https://evil.example.com"}
    reply = httpx.post(url, data={"recipe": HERONS}, headers=headers, timeout=60)
    assert reply.status_code == 403
    assert "too large" in site.post(413, recipe="x" * 300_000)
    reply = httpx.post(url, content=b"recipe=\xff", timeout=60)
    assert reply.status_code == 400
    many = "&".join(f"f{n}=1" for n in range(50))
    assert httpx.post(url, content=many, timeout=60).status_code == 400


def test_previews_of_a_client_are_limited(site: Site) -> None:
    statuses = [
        httpx.post(f"{site.url}/feeds/write", data={"recipe": "x"}).status_code
        for _ in range(2 * PREVIEWS)
    ]
    assert statuses[:PREVIEWS] == [200] * PREVIEWS
    assert {*statuses} == {200, 429}


def test_costly_search_is_a_fault_of_the_recipe(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise TooCostlyError

    monkeypatch.setattr(write_page, "draft_feed", refuse)
    assert "takes too long" in site.post(recipe=HERONS)


def test_post_link_may_hold_escapes(site: Site) -> None:
    owner, rkey = site.world.posts[0].removeprefix("at://").split("/")[::2]
    link = f"/post/{quote(owner, safe='')}/{rkey}"
    assert "at rank 1" in site.post(recipe=HERONS, ask=link)
