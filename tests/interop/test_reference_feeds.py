"""Our recipes as feeds of an account at a reference PDS, read by the official client.

They are read through the reference AppView, to which we are a foreign feed generator,
and through ours. Needs `tests/interop/reference/install`; see
docs/explanation/reference-servers.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judged.question import Question
from judged.stage import Account
from judged.world import PATIENCE, World
from reference_network import PASSWORD, is_installed, run_node, until

from feeds.serving.filling import RecipeFiller
from search.engines.postgres import PostgresEngine
from storage.collections import FEED_GENERATOR
from storage.postgres.pool import open_pool
from storage.private.private_store import PrivateStore

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

RECIPES = {
    "wombats": '[[source]]\nsearch = "wombat OR live"',
    "liked": 'everything = true\n[rank]\nby = "popular"',
    "friends": "follows = true",
    "answered": "everything = true\n[filter]\nmin_replies = 1",
    "pictures": 'everything = true\n[filter]\nmedia = ["images", "video"]',
    "roots": 'everything = true\n[filter]\nreplies = "no"\n[rank]\nper_author = 1',
}
PERSONAL = "friends"
READERS = ("alice", "bob", "carol", "dan")


@pytest.fixture(scope="module")
def feeds(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Publish the recipes for an account; return the feeds by name."""
    folder = tmp_path_factory.mktemp("recipes")
    author = world.stage.accounts["grace"]
    for name, rest in RECIPES.items():
        source = rest if rest.startswith("[[") else f"[[source]]\n{rest}"
        head = f'name = "{name}"\ntitle = "{name.title()}"\nwindow = "365d"\n'
        path = folder / f"{name}.toml"
        path.write_text(head + source)
        publish(world, author, path)
    found = {name: f"at://{author.did}/{FEED_GENERATOR}/{name}" for name in RECIPES}
    world.stage.settle()
    for uri in found.values():
        until(lambda uri=uri: is_known(world, uri), f"the feed {uri}", PATIENCE)
    # As the worker does.
    with open_pool(world.ours_database) as pool:
        filler = RecipeFiller(pool, PrivateStore(pool), PostgresEngine(pool), world.did)
        assert filler.run(60)
    for name in ("wombats", "liked", "pictures"):
        assert skeleton(world, found[name])
    return found


def publish(world: World, author: Account, path: Path) -> None:
    """Run `bigworld feed publish`."""
    account = ("--pds", author.server, "--identifier", author.handle)
    command = (sys.executable, "-m", "service.cli.app", "feed", "publish")
    subprocess.run(
        [*command, str(path), *account, "--provider", world.ours.url],
        env={**os.environ, "ATPROTO_PASSWORD": PASSWORD},
        check=True,
        timeout=120,
    )


def is_known(world: World, uri: str) -> bool:
    question = Question("app.bsky.feed.getFeedGenerator", (("feed", uri),))
    return all(server.ask(question)[0] == 200 for server in (world.ours, world.theirs))


def skeleton(world: World, feed: str, viewer: str = "") -> list[str]:
    """Return all posts of our skeleton."""
    params = (("feed", feed), ("limit", 7))
    question = Question("app.bsky.feed.getFeedSkeleton", params, viewer, pages="feed")
    status, answer = world.ours.read(question)
    assert status == 200, answer
    assert "emptyPages" not in answer
    return [item["post"] for item in answer["feed"]]


def read_by_client(account: Account, feeds: dict[str, str]) -> Any:
    options = {
        "pds": account.server,
        "identifier": account.handle,
        "password": PASSWORD,
        "feeds": list(feeds.values()),
    }
    return run_node("feeds.mjs", json.dumps(options))


def hydrated(world: World, feed: str, viewer: str = "") -> tuple[int, list[str]]:
    """Return the status and all posts of our hydrated feed."""
    params = (("feed", feed), ("limit", 7))
    question = Question("app.bsky.feed.getFeed", params, viewer, pages="feed")
    status, answer = world.ours.read(question)
    return status, posts_of(answer)


def posts_of(answer: Any) -> list[str]:
    return [item["post"]["uri"] for item in answer.get("feed", ())]


@pytest.mark.parametrize("reader", READERS)
def test_client_reads_our_feeds(
    world: World, feeds: dict[str, str], reader: str
) -> None:
    account = world.stage.accounts[reader]
    found = read_by_client(account, feeds)
    assert any(found[feed]["posts"] for feed in feeds.values())
    for name, feed in feeds.items():
        read = found[feed]
        assert (read["online"], read["valid"]) == (True, True)
        items = skeleton(world, feed, account.did)
        assert set(read["posts"]) <= set(items), name
        # Blocks, mutes and gone accounts hide the rest: from ours in the same way.
        status, ours = hydrated(world, feed, account.did)
        assert status == 200
        assert world.stage.name(str(read["posts"])) == world.stage.name(str(ours))


def test_signed_out_readers_see_our_feeds(world: World, feeds: dict[str, str]) -> None:
    for name, feed in feeds.items():
        status, ours = hydrated(world, feed)
        params = (("feed", feed), ("limit", 7))
        question = Question("app.bsky.feed.getFeed", params, pages="feed")
        theirs = world.theirs.read(question)
        assert status == theirs[0] == (401 if name == PERSONAL else 200)
        assert bool(ours) == (name != PERSONAL)
        assert world.stage.name(str(ours)) == world.stage.name(str(posts_of(theirs[1])))
