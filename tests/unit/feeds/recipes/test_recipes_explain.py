"""Explanations, empty pages and backtests of recipes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from recipe_world import SERVICE, RecipeWorld, did, make_recipe, open_world

from feeds.recipes.recipe_book import RecipeBook
from feeds.serving.backtest import backtest
from feeds.serving.explaining import Explanation, explain_empty, explain_post
from feeds.serving.recipe_feed import RecipeFeed, Shared
from feeds.skeleton import ViewerRequiredError
from storage.records.addresses import find_actors

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def world(index_db: str) -> Iterator[RecipeWorld]:
    with open_world(index_db) as world:
        yield world


def open_feed(world: RecipeWorld, text: str) -> RecipeFeed:
    stored = world.save(text)
    book = RecipeBook(SERVICE)
    book.refresh(world.private)
    return RecipeFeed(book.recipes[stored.id].compiled, Shared())


def explain(
    world: RecipeWorld, text: str, uri: str, viewer: str | None = None
) -> Explanation:
    feed = open_feed(world, text)
    world.fill()
    with world.pool.connection() as conn:
        actor = find_actors(conn, [did(viewer)])[did(viewer)] if viewer else None
        return explain_post(conn, feed, uri, actor)


def test_explain_names_rank_source_and_score(world: RecipeWorld) -> None:
    first = world.post("user1", "a cat", age=HOUR)
    second = world.post("user2", "a cat", age=2 * HOUR)
    world.like("user3", second)
    world.drain()
    source = 'name = "cats"\nsearch = "cat"'
    found = explain(world, make_recipe(source), second)
    assert (found.rank, found.reasons[0]) == (2, "sources that found it: cats")
    popular = make_recipe(source, rank='by = "popular"')
    assert explain(world, popular, second).rank == 1
    assert explain(world, popular, second).parts["reactions"] == 1
    assert explain(world, popular, first).rank == 2


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"source": 'search = "dog"'}, "no source finds it"),
        ({"filter": 'languages = "ja"'}, "left out by the filter languages"),
        ({"filter": "regex = 'dog'"}, "left out by the filter regex"),
        ({"filter": "min_likes = 2"}, "left out by min_likes = 2: the post has 0"),
        ({"filter": 'max_age = "1h"'}, "left out by max_age: the post is too old"),
        ({"filter": "followed = 'only'"}, "this feed needs a signed-in account"),
        ({"top": 'window = "1h"'}, "older than the window of 1 hours"),
        ({"source": "follows = true"}, "this feed needs a signed-in account"),
        ({"rank": "per_author = 1\nspread = 99"}, "left out by diversity"),
    ],
)
def test_explain_names_the_filter_that_leaves_a_post_out(
    world: RecipeWorld, recipe: dict[str, Any], reason: str
) -> None:
    uri = world.post("user1", "a cat", age=2 * HOUR)
    world.post("user1", "a newer cat", age=HOUR)
    world.drain()
    found = explain(world, make_recipe(**{"source": 'search = "cat"', **recipe}), uri)
    assert not found.is_in
    assert found.reasons[0].startswith(reason)


def test_explain_knows_deletes_opt_outs_and_the_filling(world: RecipeWorld) -> None:
    text = make_recipe('search = "cat"')
    uri = world.post("user1", "a cat", age=HOUR)
    gone = world.post("user2", "a cat", age=HOUR)
    world.drain()
    feed = open_feed(world, text)
    with world.pool.connection() as conn:
        reasons = explain_post(conn, feed, uri, None).reasons
        assert "is being filled" in reasons[0]
        assert "is being filled" in explain_empty(conn, feed, None)[0]
    world.fill()
    world.delete(gone)
    world.opt_out("user1")
    world.drain()
    assert "opted out" in explain(world, text, uri).reasons[0]
    assert "was deleted" in explain(world, text, gone).reasons[0]
    unknown = f"at://{did('user1')}/app.bsky.feed.post/unknown"
    assert "does not know" in explain(world, text, unknown).reasons[0]


def test_an_empty_feed_says_why(world: RecipeWorld) -> None:
    world.post("user1", "a cat", age=HOUR)
    world.drain()

    def reasons(**recipe: Any) -> list[str]:
        feed = open_feed(world, make_recipe(**recipe))
        world.fill()
        with world.pool.connection() as conn:
            return explain_empty(conn, feed, None)

    assert reasons() == []
    assert reasons(source='search = "dog"') == [
        "no post of the window matches the sources and the filter"
    ]
    assert reasons(filter="min_likes = 9") == ["left out by min_likes = 9: 1"]
    missing = f"at://{did('user1')}/app.bsky.graph.list/none"
    assert reasons(source=f'list = "{missing}"') == [
        f"source source 1: list {missing} has no accounts"
    ]
    assert reasons(source="follows = true") == ["this feed needs a signed-in account"]


def test_backtest_counts_new_posts_overlap_and_empty_hours(world: RecipeWorld) -> None:
    world.post("user1", "a cat", age=30 * HOUR)
    world.post("user2", "a cat", age=20 * HOUR)
    world.drain()
    feed = open_feed(world, make_recipe('search = "cat"'))
    world.fill()
    with world.pool.connection() as conn:
        days = backtest(conn, feed, None, 2)
        with pytest.raises(ViewerRequiredError):
            backtest(conn, open_feed(world, make_recipe("follows = true")), None, 1)
    assert sum(day.pages for day in days) == 48
    assert sum(day.new_posts for day in days) == 2
    # Of 48 hours, the last 31 follow the first post.
    assert sum(day.empty_hours for day in days) == 17
    assert sum(day.stale_hours for day in days) == 46
    assert days[-1].overlap == 1.0
    assert days[-1].authors == 2
