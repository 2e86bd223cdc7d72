"""Hostile recipes: each is refused with a reason, or served in bounded work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from recipe_world import NAMES, SERVICE, RecipeWorld, did, make_recipe, open_world

from feeds.recipes.parsing import InvalidRecipeError, read_recipe
from feeds.recipes.recipe import MAX_SOURCES, RankBy
from feeds.recipes.recipe_book import RecipeBook
from feeds.recipes.saving import prepare_recipe, put_recipe
from feeds.serving.drafts import draft_feed
from feeds.serving.explaining import explain_empty
from feeds.serving.recipe_feed import RecipeFeed, Shared
from feeds.skeleton import FeedRequest, ViewerRequiredError
from storage.private.feeds.feed_recipes import MAX_UNLISTED, TooManyRecipesError
from storage.records.addresses import find_actors

OWNER = did("user1")


@pytest.fixture(scope="module")
def world(databases: Any) -> Iterator[RecipeWorld]:
    url = databases.make("index")
    with open_world(url) as world:
        for number in range(60):
            text = f"{'ab' * 90} cat {number} #moss \U0001f600\u202e"
            age = timedelta(hours=number)
            world.post(NAMES[number % 9], text, age=age, tags=["moss"])
        world.drain()
        yield world
    databases.drop(url)


def draw_value(random: Random) -> Any:
    return random.choice(
        (
            True, False, 0, 1, -1, 7, 2**70, 1.5, float("nan"), float("inf"), "", "cat",
            "x" * 5_000, "\0", "\ud800", "(a|b)*a(a|b){40}", "(((", "in:following",
            "cat OR (dog -bird)", "-cat", "#moss", "example.com", "en", "images", "7d",
            "999999d", "latest", "popular", "interleave", "only", "user1.test", OWNER,
            f"at://{OWNER}/app.bsky.graph.list/x", f"at://{OWNER}/app.bsky.feed.post/1",
            [], {}, [[]], [{}], ["cat"] * 600, ["en", "en"], {"any": [{}]},
            [{"regex": "(ab)*c"}] * 3, [{"none": [{"any": [{"tags": "moss"}]}]}],
        )
    )  # fmt: skip


KEYS = {
    "source": (
        "search", "tags", "domains", "record", "saved_search", "everything", "accounts",
        "list", "starter_pack", "follows", "follows_of_follows", "collections", "name",
        "weight", "reposts", "rank", "oops",
    ),
    "filter": (
        "languages", "media", "not_media", "search", "regex", "not_regex", "tags",
        "domains", "authors", "not_authors", "replies", "quotes", "min_chars",
        "max_chars", "any", "none", "min_likes", "max_likes", "min_age", "max_age",
        "labels", "not_labels", "lists", "not_lists", "followed", "not_seen",
    ),
    "rank": (
        "by", "mix", "likes", "gravity", "offset_hours", "quiet_days", "pool",
        "per_author", "per_thread", "per_domain", "spread",
    ),
}  # fmt: skip
GOOD: dict[str, tuple[dict[str, Any], ...]] = {
    "source": (
        {"search": "cat"}, {"everything": True}, {"tags": "moss"}, {"follows": True},
        {"search": "-cat", "weight": 3}, {"accounts": [f"{n}.test" for n in NAMES]},
        {"search": "(cat OR ab*) -dog"}, {"follows_of_follows": True, "reposts": True},
    ),
    "filter": (
        {}, {"regex": "(a|b)*a(a|b){40}c"}, {"regex": "(ab?)+"}, {"min_likes": 10**9},
        {"none": [{"regex": "x"}, {"any": [{"search": "cat"}, {"min_chars": 9}]}]},
        {"not_labels": "spam", "lists": f"at://{OWNER}/app.bsky.graph.list/x"},
    ),
    "rank": (
        {}, *({"by": by.value} for by in RankBy), {"mix": "interleave"},
        {"by": "popular", "gravity": 5, "offset_hours": "0.1", "pool": 5_000},
        {"per_author": 1, "per_thread": 1, "per_domain": 1, "spread": 100},
    ),
}  # fmt: skip


def draw_recipe(random: Random) -> dict[str, Any]:
    """Return the JSON of a recipe: valid parts, some with broken keys."""
    broken = random.choice((0, 0, 1, 2))
    parts = {name: dict(random.choice(GOOD[name])) for name in ("filter", "rank")}
    sources = [
        dict(random.choice(GOOD["source"])) | {"name": str(number)}
        for number in range(random.choice((1, 2, MAX_SOURCES)))
    ]
    for _ in range(broken):
        name = random.choice(("source", "filter", "rank"))
        part = random.choice(sources) if name == "source" else parts[name]
        part[random.choice(KEYS[name])] = draw_value(random)
    recipe: dict[str, Any] = {"name": "hostile", "title": "H", "source": sources}
    return recipe | parts


def test_hostile_recipes_are_refused_or_served(world: RecipeWorld, long: bool) -> None:
    random = Random(11)
    shared = Shared()
    refused = served = 0
    with world.pool.connection() as conn:
        viewers = (None, *find_actors(conn, [did(n) for n in NAMES[:2]]).values())
    for _ in range(10_000 if long else 150):
        values = draw_recipe(random)
        try:
            recipe = read_recipe(values)
        except InvalidRecipeError as error:
            refused += bool(error.reason)
            continue
        text = to_text(values)
        compiled = prepare_recipe(world.private, world.pool.connection, SERVICE, text)
        assert compiled.recipe == recipe
        feed, _ = draft_feed(world.pool, world.engine, compiled, shared, most=100)
        with world.pool.connection() as conn:
            conn.execute("SET LOCAL statement_timeout = 2000")
            try:
                after = None
                for _ in range(3):
                    request = FeedRequest(random.choice(viewers), 20, after)
                    page = feed.build(conn, request)
                    assert len({e.item.post for e in page}) == len(page)
                    if len(page) < 20:
                        break
                    after = page[-1].keyset
            except ViewerRequiredError:
                pass
            explain_empty(conn, feed, None, stored=False)
        served += 1
    assert refused > 10
    assert served > 10


def to_text(values: dict[str, Any]) -> str:
    """Return a recipe as the JSON of a record."""
    return json.dumps(values)


def test_accounts_have_few_recipes_that_check_every_record(world: RecipeWorld) -> None:
    broad = make_recipe("everything = true", filter="languages = 'en'", name="n{}")
    listed = make_recipe('search = "cat"', name="n{}")

    def put(owner: int, text: str, number: int) -> None:
        put_recipe(
            world.private,
            world.pool.connection,
            f"did:plc:{owner:024}",
            text.replace("n{}", f"n{number}"),
            service_did=SERVICE,
        )

    for number in range(MAX_UNLISTED):
        put(number % 10, broad, number)
    with pytest.raises(TooManyRecipesError, match="each source needs a word"):
        put(11, broad, 0)
    put(0, broad, 0)
    for number in range(50):
        put(12, listed, number)
    with pytest.raises(TooManyRecipesError, match="at most 50"):
        put(12, listed, 50)
    book = RecipeBook(SERVICE)
    book.refresh(world.private)
    assert len(book.recipes) == MAX_UNLISTED + 50
    sets = {known.compiled.candidates for known in book.recipes.values()}
    # Recipes with the same sources and filter share their candidates.
    assert len(sets) == 2
    assert RecipeFeed(next(iter(book.recipes.values())).compiled, Shared())
