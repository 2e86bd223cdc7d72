"""Feeds in Python as they are served, edited and read by their authors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from recipe_world import RecipeWorld, did, make_recipe, open_world
from script_world import ScriptWorld, serve_scripts

from storage.private.feeds.feed_hours import EVENTS, FAILED

FIXED = """
from feeds.scripts.interface import Item

TITLE = "Fixed"
DESCRIPTION = "Posts in a fixed order"

def feed(request):
    for number, uri in enumerate({uris}):
        yield Item(uri, f"number {{number}}")
"""
LIKED = """
def feed(request):
    posts = request.search("heron", limit=50)
    return [post.uri for post in sorted(posts, key=lambda post: -post.likes)]
"""


@pytest.fixture
def world(index_db: str) -> Iterator[RecipeWorld]:
    with open_world(index_db) as world:
        yield world


@pytest.fixture
def served(world: RecipeWorld, tmp_path: Path) -> Iterator[ScriptWorld]:
    for number in range(12):
        age = timedelta(hours=number)
        world.post(f"user{number % 4}", f"heron {number}", age=age, langs=["en"])
    for number in range(3):
        world.like("user5", world.posts[7])
        world.like(f"user{number}", world.posts[3])
    world.drain()
    with serve_scripts(world, tmp_path) as served:
        yield served


def test_file_is_served_in_its_order_with_titles_and_reasons(
    served: ScriptWorld,
) -> None:
    uris = [served.world.posts[n] for n in (5, 2, 9)]
    assert served.write("fixed", FIXED.format(uris=uris)) == {}
    status, body = served.get("fixed")
    assert status == 200
    assert [item["post"] for item in body["feed"]] == uris
    assert body["feed"][1]["feedContext"] == "number 1"
    found = served.get("fixed", nsid="app.bsky.feed.getFeedGenerator")[1]
    assert found["view"]["displayName"] == "Fixed"
    assert found["view"]["description"] == "Posts in a fixed order"
    hydrated = served.get("fixed", nsid="app.bsky.feed.getFeed")[1]["feed"]
    assert [item["post"]["uri"] for item in hydrated] == uris


def test_search_gives_posts_with_their_facts(served: ScriptWorld) -> None:
    served.write("liked", LIKED)
    assert served.posts("liked")[:2] == [served.world.posts[3], served.world.posts[7]]
    facts = """
from feeds.scripts.interface import Item

def feed(request):
    assert request.viewer is None
    post = request.search("heron", limit=1)[0]
    age = request.now - post.created_at
    yield Item(post.uri, f"{post.author} {post.handle} {post.text} {post.languages}"
               f" {post.likes} {post.parent} {age.total_seconds() < 600}")
"""
    served.write("facts", facts)
    [item] = served.get("facts")[1]["feed"]
    assert item["feedContext"] == (
        f"{did('user0')} user0.test heron 0 ('en',) 0 None True"
    )


def test_recipe_gives_its_posts_in_order(served: ScriptWorld) -> None:
    served.world.save(make_recipe("accounts = ['user1.test']", name="ones"))
    served.write(
        "reversed",
        "def feed(request):\n"
        "    return [post.uri for post in reversed(request.recipe('ones'))]\n",
    )
    ones = [served.world.posts[n] for n in (1, 5, 9)]
    assert served.posts("ones") == ones
    assert served.posts("reversed") == ones[::-1]
    served.write("none", "def feed(request): return request.recipe('nothing')")
    status, body = served.get("none")
    assert (status, body["error"]) == (503, "FeedFailed")
    assert "there is no recipe 'nothing'" in body["message"]


def test_pages_hold_while_posts_arrive(served: ScriptWorld) -> None:
    served.write("newest", "def feed(r): return [p.uri for p in r.search('heron')]")
    status, body = served.get("newest", limit=5)
    seen = [item["post"] for item in body["feed"]]
    served.world.post("user1", "heron new")
    served.world.delete(served.world.posts[6])
    served.world.drain()
    while "cursor" in body:
        status, body = served.get("newest", limit=5, cursor=body["cursor"])
        assert status == 200
        seen += [item["post"] for item in body["feed"]]
    assert seen == [uri for n, uri in enumerate(served.world.posts[:12]) if n != 6]


def test_pages_go_on_after_an_edit_and_in_another_process(served: ScriptWorld) -> None:
    posts = served.world.posts[:12]
    served.write("fixed", FIXED.format(uris=posts))
    status, body = served.get("fixed", limit=5)
    assert [item["post"] for item in body["feed"]] == posts[:5]
    # The reader's last post is now the second one.
    served.write("fixed", FIXED.format(uris=posts[3:]))
    status, body = served.get("fixed", limit=5, cursor=body["cursor"])
    assert status == 200
    assert [item["post"] for item in body["feed"]] == posts[5:10]
    served.write("fixed", FIXED.format(uris=posts[:3]))
    assert served.get("fixed", limit=5, cursor=body["cursor"]) == (200, {"feed": []})


def test_personal_file_reads_for_its_reader_only(served: ScriptWorld) -> None:
    served.world.follow("user5", "user2")
    served.world.drain()
    served.world.save(make_recipe("follows = true", name="follows"))
    served.write(
        "mine",
        "PERSONAL = True\n"
        "def feed(request):\n"
        f"    assert request.viewer in {[did('user5'), did('user6')]}\n"
        "    return [post.uri for post in request.recipe('follows')]\n",
    )
    assert served.get("mine")[0] == 401
    mine = [served.world.posts[n] for n in (2, 6, 10)]
    assert served.posts("mine", "user5") == mine
    assert served.posts("mine", "user6") == []


def test_edited_file_is_served_without_a_restart(served: ScriptWorld) -> None:
    posts = served.world.posts
    served.write("fixed", FIXED.format(uris=posts[:2]))
    assert served.posts("fixed") == posts[:2]
    served.write("fixed", FIXED.format(uris=posts[4:8]).replace("Fixed", "Changed"))
    assert served.posts("fixed") == posts[4:8]
    found = served.get("fixed", nsid="app.bsky.feed.getFeedGenerator")[1]
    assert found["view"]["displayName"] == "Changed"
    # A faulty version leaves the feed as it was, and its error is shown.
    errors = served.write("fixed", "def feed(request):\n    return (]\n")
    assert "line 2: SyntaxError" in errors["fixed.py"]
    assert served.posts("fixed") == posts[4:8]
    assert served.book.refresh() == errors
    (served.folder / "fixed.py").unlink()
    assert served.book.refresh() == {}
    assert served.get("fixed")[1]["error"] == "UnknownFeed"


def test_junk_duplicates_and_foreign_uris_are_left_out(served: ScriptWorld) -> None:
    good = served.world.posts[4]
    junk = [
        good, 7, None, good, "no uri", "at://did:plc:x/app.bsky.feed.post/1", "\0",
        "\ud800", b"bytes", {"post": good}, good.replace("post", "like"), good + "/x",
        served.uri("fixed"), f"at://{did('user1')}",
    ]  # fmt: skip
    served.write(
        "junk",
        f"def feed(request):\n    yield from {junk!r}\n    yield 'x' * 100_000\n",
    )
    assert served.posts("junk") == [good]
    for text, reason in (
        ("def feed(request): return 7", "TypeError"),
        ("def feed(request): return None", "return or yield posts"),
        ("def feed(request): return 'at://x'", "return or yield posts"),
        ("feed = 3", "no function feed"),
        ("TITLE = 3\ndef feed(request): return []", "TITLE is 3"),
    ):
        served.write("other", text)
        status, body = served.get("other")
        assert (status, body["error"]) == (503, "FeedFailed")
        assert reason in body["message"]
    served.write("empty", "def feed(request): return []")
    assert served.get("empty") == (200, {"feed": []})


def test_endless_yield_is_cut(served: ScriptWorld) -> None:
    text = "import itertools\ndef feed(request):\n    return itertools.cycle({!r})\n"
    served.write("cycle", text.format(served.world.posts[:3]))
    assert served.posts("cycle") == served.world.posts[:3]
    served.write("sevens", text.format([7]))
    assert served.posts("sevens") == []


def test_opted_out_accounts_are_in_no_page(served: ScriptWorld) -> None:
    served.world.opt_out("user1")
    served.world.drain()
    served.write("fixed", FIXED.format(uris=served.world.posts))
    authors = {uri.split("/")[2] for uri in served.posts("fixed")}
    assert authors == {did(f"user{n}") for n in (0, 2, 3)}


def test_generator_record_of_an_account_names_a_file(served: ScriptWorld) -> None:
    served.write("fixed", FIXED.format(uris=served.world.posts[:2]))
    record = {"did": "did:web:provider.example.com", "displayName": "Mine"}
    uri = served.world.write("user3", "app.bsky.feed.generator", record, rkey="fixed")
    served.world.drain()
    assert served.posts("fixed", feed=uri) == served.world.posts[:2]


def test_names_that_cannot_be_served_are_refused(served: ScriptWorld) -> None:
    errors = served.write("popular", FIXED.format(uris=[]))
    assert errors == {"popular.py": "popular is a built-in feed"}
    errors = served.write("My_Feed", FIXED.format(uris=[]))
    assert "lower-case" in errors["My_Feed.py"]
    (served.folder / "binary.py").write_bytes(b"\xff")
    (served.folder / "large.py").write_text("#" * 70_000)
    errors = served.book.refresh()
    assert "UTF-8" in errors["binary.py"]
    assert "over 65536 bytes" in errors["large.py"]
    assert served.get("binary")[1]["error"] == "UnknownFeed"


def test_failures_are_counted_in_the_statistics(served: ScriptWorld) -> None:
    served.write("broken", "def feed(request): return 1 / 0")
    assert served.get("broken")[0] == 503
    assert served.get("broken")[0] == 503
    [hour] = served.app.feed_counters.take()
    assert hour.feed == served.uri("broken")
    assert hour.events[EVENTS.index(FAILED)] == 2
    assert hour.pages == 0


def test_files_see_no_settings_and_no_secrets(
    served: ScriptWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    served.write(
        "spy",
        "import json, os\nfrom feeds.scripts.interface import Item\n"
        "def feed(request):\n"
        f"    yield Item({served.world.posts[0]!r}, json.dumps(sorted(os.environ)))\n",
    )
    [item] = served.get("spy")[1]["feed"]
    assert {*json.loads(item["feedContext"])} <= {"PATH", "LC_ALL", "LC_CTYPE"}
