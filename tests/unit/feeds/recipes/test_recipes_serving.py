"""Recipes over a real index: sources, filters, orders, pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from recipe_world import NAMES, RecipeWorld, did, make_recipe, open_world

from feeds.recipes.recipe_book import RecipeBook
from feeds.serving.recipe_feed import RecipeFeed, Shared
from feeds.skeleton import FeedRequest, ViewerRequiredError
from storage.records.addresses import find_actors, name_addresses_in

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def world(index_db: str) -> Iterator[RecipeWorld]:
    with open_world(index_db) as world:
        yield world


def read(
    world: RecipeWorld, text: str, viewer: str | None = None, limit: int = 7
) -> list[str]:
    """Save a recipe, fill it, and return the AT-URIs of all its pages."""
    stored = world.save(text)
    world.fill()
    return read_stored(world, stored.id, viewer, limit)


def read_stored(
    world: RecipeWorld, number: int, viewer: str | None = None, limit: int = 7
) -> list[str]:
    book = RecipeBook("did:web:provider.example.com")
    book.refresh(world.private)
    feed = RecipeFeed(book.recipes[number].compiled, Shared())
    uris: list[str] = []
    after: list[Any] | None = None
    with world.pool.connection() as conn:
        actor = find_actors(conn, [did(viewer)])[did(viewer)] if viewer else None
        for _ in range(300):
            entries = feed.build(conn, FeedRequest(actor, limit, after))
            named = name_addresses_in(conn, [entry.item.post for entry in entries])
            uris += [named[entry.item.post] for entry in entries]
            if len(entries) < limit:
                return uris
            after = entries[-1].keyset
    raise AssertionError("the feed does not end")


def test_a_search_finds_old_and_new_posts_newest_first(world: RecipeWorld) -> None:
    old = world.post("user1", "a cat", age=20 * DAY)
    gone = world.post("user1", "a cat that is gone", age=10 * DAY)
    beyond = world.post("user1", "a cat of long ago", age=100 * DAY)
    world.post("user2", "a dog", age=DAY)
    world.drain()
    stored = world.save(make_recipe('search = "cat"'))
    world.fill()
    new = world.post("user2", "the cat", age=HOUR)
    world.drain()
    assert read_stored(world, stored.id) == [new, gone, old]
    world.delete(gone)
    world.drain()
    assert read_stored(world, stored.id) == [new, old]
    assert beyond not in read_stored(world, stored.id)
    world.write(
        "user2", "app.bsky.feed.post", {"text": "a dog"}, rkey=new[-13:], age=HOUR
    )
    world.drain()
    assert read_stored(world, stored.id) == [old]


def test_a_wiped_index_fills_the_candidates_while_it_is_built(
    world: RecipeWorld,
) -> None:
    uri = world.post("user1", "a cat", age=20 * DAY)
    world.drain()
    stored = world.save(make_recipe('search = "cat"'))
    with world.pool.connection() as conn:
        conn.execute("DELETE FROM feed_candidate")
        conn.execute(
            "INSERT INTO search_outbox (actor, collection, rkey, op)"
            " SELECT actor, collection, rkey, 'put' FROM record"
        )
    world.drain()
    assert read_stored(world, stored.id) == [uri]


def test_accounts_follows_and_reposts_are_merged(world: RecipeWorld) -> None:
    first = world.post("user1", "one", age=3 * HOUR)
    second = world.post("user2", "two", age=2 * HOUR)
    third = world.post("user3", "three", age=4 * HOUR)
    world.repost("user1", third)
    world.follow("user0", "user1")
    world.follow("user1", "user3")
    world.drain()
    accounts = make_recipe('accounts = ["user1.test", "user2.test"]', name="a")
    assert read(world, accounts) == [second, first]
    follows = make_recipe("follows = true\nreposts = true", name="b")
    assert read(world, follows, "user0") == [third, first]
    with pytest.raises(ViewerRequiredError):
        read(world, follows)
    further = make_recipe("follows_of_follows = true", name="c")
    assert read(world, further, "user0") == [third]
    filtered = make_recipe("follows = true", name="d", filter="regex = 'on[ex]'")
    assert read(world, filtered, "user0") == [first]


def test_lists_tags_domains_records_and_other_lexicons(world: RecipeWorld) -> None:
    owner = "user0"
    purpose = "app.bsky.graph.defs#curatelist"
    listed = world.write(
        owner, "app.bsky.graph.list", {"name": "x", "purpose": purpose}
    )
    member = {"list": listed, "subject": did("user1")}
    world.write(owner, "app.bsky.graph.listitem", member)
    pack = world.write(
        owner, "app.bsky.graph.starterpack", {"name": "p", "list": listed}
    )
    one = world.post("user1", "one #Moss", age=HOUR, tags=["moss"])
    card = {"uri": "https://sub.example.com/x", "title": "t", "description": "d"}
    embed = {"$type": "app.bsky.embed.external", "external": card}
    two = world.post("user2", "two", age=2 * HOUR, embed=embed)
    reference = {
        "uri": one,
        "cid": "bafyreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    }
    three = world.post("user3", "three", reply={"root": reference, "parent": reference})
    review = world.write("user4", "org.example.review", {"text": "a fine book"})
    world.drain()
    assert read(world, make_recipe(f'list = "{listed}"', name="a")) == [one]
    assert read(world, make_recipe(f'starter_pack = "{pack}"', name="b")) == [one]
    assert read(world, make_recipe('tags = ["#moss"]', name="c")) == [one]
    assert read(world, make_recipe('domains = ["example.com"]', name="d")) == [two]
    assert read(world, make_recipe(f'record = "{one}"', name="e")) == [three]
    nsid = 'collections = ["org.example.review"]'
    assert read(world, make_recipe(nsid, name="f")) == [review]
    kept = make_recipe(name="g", filter=f'lists = "{listed}"')
    assert read(world, kept) == [one]
    left = make_recipe(name="h", filter=f'not_lists = "{listed}"\nreplies = "no"')
    assert read(world, left) == [two]


def test_counts_ages_lengths_and_nested_filters(world: RecipeWorld) -> None:
    liked = world.post("user1", "cat one", age=5 * HOUR, langs=["en"])
    plain = world.post("user2", "cat two", age=2 * HOUR, langs=["ja"])
    world.like("user3", liked)
    world.drain()
    assert read(world, make_recipe(name="a", filter="min_likes = 1")) == [liked]
    assert read(world, make_recipe(name="b", filter="max_likes = 0")) == [plain]
    assert read(world, make_recipe(name="c", filter='max_age = "3h"')) == [plain]
    assert read(world, make_recipe(name="d", filter='min_age = "3h"')) == [liked]
    assert read(world, make_recipe(name="e", filter="min_chars = 8")) == []
    assert read(world, make_recipe(name="f", filter='languages = "ja"')) == [plain]
    nested = "any = [{regex = 'tw.'}, {search = \"dog\"}]"
    assert read(world, make_recipe(name="g", filter=nested)) == [plain]
    none = "none = [{regex = 'tw.'}, {search = \"dog\"}]"
    assert read(world, make_recipe(name="h", filter=none)) == [liked]
    authors = 'not_authors = ["user1.test"]'
    assert read(world, make_recipe(name="i", filter=authors)) == [plain]


def test_popular_quiet_and_co_likes_orders(world: RecipeWorld) -> None:
    loud = [world.post("user1", f"loud {n}", age=n * HOUR) for n in range(1, 5)]
    quiet = world.post("user2", "quiet", age=2 * HOUR)
    for fan in ("user3", "user4", "user5"):
        world.like(fan, loud[3])
    world.like("user3", quiet)
    world.like("user0", loud[3])
    world.drain()
    popular = read(world, make_recipe(name="a", rank='by = "popular"\ngravity = 0.5'))
    assert popular[:2] == [loud[3], quiet]
    assert read(world, make_recipe(name="b", rank='by = "quiet"'))[0] == quiet
    common = make_recipe(name="c", rank='by = "co-likes"\ngravity = 0')
    assert {*read(world, common, "user0")[:2]} == {loud[3], quiet}
    assert len(read(world, common)) == 5


def test_interleaved_sources_follow_their_weights(world: RecipeWorld) -> None:
    for number in range(12):
        world.post("user1", f"cat {number}", age=number * HOUR)
        world.post("user2", f"dog {number}", age=30 * DAY + number * HOUR)
    world.drain()
    more = '\n[[source]]\nsearch = "dog"\n'
    text = make_recipe(
        'search = "cat"\nweight = 2', rank='mix = "interleave"', more=more
    )
    uris = read(world, text)
    assert len({*uris}) == 24
    owners = ["cat" if did("user1") in uri else "dog" for uri in uris[:9]]
    assert owners == ["cat", "dog", "cat"] * 3


def test_diversity_keeps_authors_apart(world: RecipeWorld) -> None:
    for number in range(9):
        world.post("user1", f"many {number}", age=number * HOUR)
    others = [world.post(name, "one", age=DAY) for name in NAMES[2:7]]
    world.drain()
    uris = read(world, make_recipe(rank="per_author = 1\nspread = 3"))
    authors = [uri.split("/")[2] for uri in uris]
    assert {*others} <= {*uris}
    for place in range(len(authors) - 2):
        assert len({*authors[place : place + 3]}) == 3


def test_sections_and_sticky_posts(world: RecipeWorld) -> None:
    first = world.post("user1", "cat", age=HOUR)
    second = world.post("user2", "dog", age=2 * HOUR)
    world.follow("user5", "user1")
    world.drain()
    top = f'sticky = "{second}"'
    more = '[[source]]\nname = "dogs"\nsearch = "dog"\n'
    section = '[[section]]\nfor = "{}"\nsources = "dogs"\n'
    text = make_recipe('search = "cat"', top=top, more=more)
    assert read(world, text) == [second, first]
    out = text.replace(top, "") + section.format("signed-out")
    assert read(world, out) == [second]
    assert read(world, out, "user0") == [first, second]
    new = text.replace(top, "") + section.format("new") + "follows_below = 1"
    assert read(world, new, "user0") == [second]
    assert read(world, new, "user5") == [first, second]


def test_opted_out_accounts_are_left_out_unless_followed(world: RecipeWorld) -> None:
    world.post("user1", "cat", age=HOUR)
    shown = world.post("user2", "cat", age=2 * HOUR)
    stored = world.save(make_recipe('search = "cat"'))
    world.opt_out("user1")
    world.follow("user0", "user1")
    world.drain()
    assert read_stored(world, stored.id) == [shown]
    assert len(read_stored(world, stored.id, "user0")) == 2


def test_places_hold_while_posts_arrive(world: RecipeWorld) -> None:
    old = [world.post(f"user{n % 9}", f"cat {n}", age=n * HOUR) for n in range(1, 40)]
    world.drain()
    for rank in ("", 'by = "popular"', "per_author = 3", 'mix = "interleave"'):
        stored = world.save(make_recipe('search = "cat"', rank=rank))
        world.fill()
        book = RecipeBook("did:web:provider.example.com")
        book.refresh(world.private)
        seen: list[Any] = []
        after = None
        while True:
            # Another process each time: nothing is in memory.
            feed = RecipeFeed(book.recipes[stored.id].compiled, Shared())
            with world.pool.connection() as conn:
                entries = feed.build(conn, FeedRequest(None, 6, after))
            seen += [entry.item.post for entry in entries]
            if len(entries) < 6:
                break
            after = entries[-1].keyset
            world.post("user10", "new cat")
            world.drain()
        assert len({*seen}) == len(seen) == len(old)
        for uri in world.posts[len(old) :]:
            world.delete(uri)
        del world.posts[len(old) :]
        world.drain()


def test_follows_of_an_account_are_a_source_for_all_readers(world: RecipeWorld) -> None:
    world.follow("user1", "user2")
    world.follow("user1", "user3")
    posts = [world.post(f"user{n}", "tea", age=n * HOUR) for n in (2, 3, 4)]
    world.drain()
    followed = make_recipe(f'follows_of = "{did("user1")}"')
    assert read(world, followed) == posts[:2]
    assert read(world, followed, "user4") == posts[:2]


def test_random_order_holds_over_pages_and_has_each_post_once(
    world: RecipeWorld,
) -> None:
    posts = [world.post("user2", "tea", age=n * HOUR) for n in range(40)]
    world.drain()
    shuffled = read(world, make_recipe('search = "tea"', rank='by = "random"'))
    assert sorted(shuffled) == sorted(posts)
    assert shuffled != posts
