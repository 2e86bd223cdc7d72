"""Previews equal what is served, under writes; opted-out accounts are in no feed."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from appview_world import serve_index
from recipe_world import NAMES, SERVICE, RecipeWorld, did, make_recipe, open_world

from appview.app import AppView
from appview.session import RequestContext
from appview.shapes.feed_preview import SKELETON, preview_skeleton
from feeds.recipes.parsing import parse_recipe
from feeds.recipes.saving import prepare_recipe
from feeds.serving.drafts import draft_feed
from feeds.snapshots import Moments
from network.xrpc.reply import encode_json
from network.xrpc.server import XrpcError
from storage.postgres.instants import to_micros

ROOT = Path(__file__).resolve().parents[4]
DEMO = sorted((ROOT / "demo" / "recipes").glob("*.toml"))
DESCRIBE = "app.bsky.feed.describeFeedGenerator"
OUT = ("user7", "user8")
WORDS = (
    "heron", "kingfisher", "train station night", "#bookclub", "#sourdough", "tea",
    "freshly painted tram", "wren",
)  # fmt: skip


@pytest.fixture
def world(index_db: str) -> Iterator[RecipeWorld]:
    with open_world(index_db, seed=7) as world:
        yield world


class FixedMoments(Moments):
    """Moments that pass only as the test says: two requests may see the same one."""

    now = 0

    def freeze(self, feed: Hashable, now: int) -> int:
        return self.now or now


def write_some(world: RecipeWorld, count: int) -> None:
    """Write posts, replies, likes, follows and deletes."""
    random = world.random
    for _ in range(count):
        name = random.choice(NAMES)
        old = random.choice(world.posts) if world.posts else None
        kind = random.randrange(8)
        age = timedelta(minutes=random.randrange(60 * 24 * 60))
        text = f"{random.choice(WORDS)} {random.randrange(99)}"
        if kind < 4 or old is None:
            tags = [w[1:] for w in text.split() if w.startswith("#")]
            world.post(name, text, age=age, langs=["en"], tags=tags)
        elif kind == 4:
            parent = {
                "uri": old,
                "cid": "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454",
            }
            world.post(name, text, reply={"root": parent, "parent": parent})
        elif kind == 5:
            world.like(name, old)
        elif kind == 6:
            world.follow(name, random.choice(NAMES[:7]))
        else:
            world.delete(old)
            world.posts.remove(old)
    world.drain()


def served(url: str, uri: str, viewer: str | None, **params: Any) -> bytes:
    """Return the body of getFeedSkeleton, also of an error."""
    query = urllib.parse.urlencode({"feed": uri, **params})
    headers = {"x-viewer": did(viewer)} if viewer else {}
    request = urllib.request.Request(f"{url}/xrpc/{SKELETON}?{query}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return bytes(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return bytes(error.read())


def previewed(
    app: AppView, text: str, uri: str, viewer: str | None, **params: Any
) -> bytes:
    compiled = prepare_recipe(app.private, app.pool.connection, SERVICE, text)
    feed, _ = draft_feed(app.pool, app.engine, compiled, app.feeds.shared)
    context = RequestContext(app, SKELETON, did(viewer) if viewer else None)
    given = {"feed": uri, "limit": 50, **params}
    try:
        return encode_json(preview_skeleton(context, feed.algorithm, given))
    except XrpcError as error:
        return encode_json({"error": error.name, "message": error.message})


def test_previews_equal_served_pages_under_writes(
    world: RecipeWorld, long: bool
) -> None:
    write_some(world, 120)
    for name in OUT:
        world.opt_out(name)
    world.drain()
    texts = [path.read_text() for path in DEMO]
    for text in texts:
        world.save(text)
    world.fill()
    out = {did(name) for name in OUT}
    items = 0
    random = world.random
    with serve_index(world.pool, world.private.pool) as (url, app):
        app.feeds.forget()
        app.feeds.shared.moments = moments = FixedMoments()
        for draw in range(10_000 if long else 150):
            if draw % 10 == 0:
                write_some(world, 5)
            moments.now = to_micros(datetime.now(UTC))
            text = random.choice(texts)
            name = parse_recipe(text).name
            uri = f"at://{SERVICE}/app.bsky.feed.generator/{name}"
            # Nobody follows an account that opted out.
            viewer = random.choice((None, *NAMES[:7]))
            params: dict[str, Any] = {"limit": random.choice((1, 3, 30))}
            for _ in range(random.randint(1, 3)):
                page = previewed(app, text, uri, viewer, **params)
                assert served(url, uri, viewer, **params) == page, (name, viewer)
                reply: dict[str, Any] = json.loads(page)
                authors = {i["post"].split("/")[2] for i in reply.get("feed", ())}
                assert not authors & out
                items += len(reply.get("feed", ()))
                if "cursor" not in reply:
                    break
                params["cursor"] = reply["cursor"]
    assert items > 300


def test_a_draft_shows_what_is_served_after_it_is_saved(world: RecipeWorld) -> None:
    write_some(world, 150)
    text = make_recipe('search = "heron"', name="herons", rank='by = "popular"')
    uri = f"at://{SERVICE}/app.bsky.feed.generator/herons"
    with serve_index(world.pool, world.private.pool) as (url, app):
        draft = json.loads(previewed(app, text, uri, None))["feed"]
        world.save(text)
        world.fill()
        app.feeds.forget()
        reply = json.loads(served(url, uri, None, limit=50))
    assert draft
    assert reply["feed"] == draft


def test_ninety_days_are_there_right_after_publishing(world: RecipeWorld) -> None:
    for day in range(0, 100, 2):
        world.post(NAMES[day % 7], f"heron of day {day}", age=timedelta(days=day + 0.5))
    world.drain()
    text = make_recipe('search = "heron"', name="herons")
    uri = f"at://{SERVICE}/app.bsky.feed.generator/herons"
    with serve_index(world.pool, world.private.pool) as (url, app):
        world.save(text)
        world.fill()
        app.feeds.forget()
        reply = json.loads(served(url, uri, None, limit=100))
        described = urllib.request.urlopen(
            f"{url}/xrpc/app.bsky.feed.describeFeedGenerator", timeout=20
        )
        with described:
            assert uri in described.read().decode()
        view = f"{url}/xrpc/app.bsky.feed.getFeedGenerator?feed={uri}"
        with urllib.request.urlopen(view, timeout=20) as found:
            assert b'"isValid":true' in found.read()
    assert [item["post"] for item in reply["feed"]] == [*world.posts[:45]]


def test_feed_of_an_account_is_not_served_if_its_record_names_another_service(
    world: RecipeWorld,
) -> None:
    world.post("user1", "heron", age=timedelta(hours=1))
    text = make_recipe('search = "heron"', name="herons")
    world.save(text, owner=did("user2"))
    world.fill()
    uri = f"at://{did('user2')}/app.bsky.feed.generator/herons"
    with serve_index(world.pool, world.private.pool) as (url, _):
        world.drain()
        assert world.posts[0].encode() in served(url, uri, None)
        for service, is_ours in (("did:web:other.example.com", False), (SERVICE, True)):
            record = {"did": service, "displayName": "Herons"}
            world.write("user2", "app.bsky.feed.generator", record, rkey="herons")
            world.drain()
            assert (world.posts[0].encode() in served(url, uri, None)) == is_ours
            with urllib.request.urlopen(f"{url}/xrpc/{DESCRIBE}", timeout=20) as found:
                assert (uri.encode() in found.read()) == is_ours


@pytest.mark.timeout(3600)
def test_opted_out_accounts_are_in_no_page(world: RecipeWorld, long: bool) -> None:
    for name in OUT:
        world.opt_out(name)
    write_some(world, 3_000 if long else 400)
    texts = [path.read_text() for path in DEMO]
    for text in texts:
        world.save(text)
    world.fill()
    out = {did(name) for name in OUT}
    wrote = {uri.split("/")[2] for uri in world.posts}
    assert out <= wrote
    feeds = [
        f"at://{SERVICE}/app.bsky.feed.generator/{parse_recipe(text).name}"
        for text in texts
    ]
    wanted, items = 1_000_000 if long else 2_000, 0
    with serve_index(world.pool, world.private.pool) as (url, app):
        app.feeds.forget()
        while items < wanted:
            before = items
            for uri in feeds:
                viewer = world.random.choice((None, *NAMES[:7]))
                cursor: dict[str, Any] = {}
                while True:
                    page = json.loads(served(url, uri, viewer, limit=100, **cursor))
                    found = [
                        item["post"].split("/")[2] for item in page.get("feed", ())
                    ]
                    assert out.isdisjoint(found), (uri, viewer)
                    items += len(found)
                    if "cursor" not in page:
                        break
                    cursor = {"cursor": page["cursor"]}
            assert items > before
