"""A plain feed beside hostile ones: it is filled and served as without them.

The times go to the file that HOSTILE_FEEDS names; they are never asserted.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from appview_world import serve_index
from recipe_world import NAMES, SERVICE, RecipeWorld, make_recipe, open_world
from test_recipes_hostile import draw_recipe, to_text

from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.parsing import read_recipe

SKELETON = "app.bsky.feed.getFeedSkeleton"
PLAIN = f"at://{SERVICE}/app.bsky.feed.generator/plain"
Times = dict[str, float]


def write(world: RecipeWorld, posts: int) -> float:
    """Write and match posts; return the seconds of a post."""
    for number in range(posts):
        world.post(NAMES[number % 9], f"a cat {number} and {'ab' * 60} #moss")
    world.apply()
    started = time.perf_counter()
    world.drain()
    return (time.perf_counter() - started) / posts


def save_hostile(world: RecipeWorld, count: int) -> list[str]:
    """Save hostile recipes that are valid; return the URIs of their feeds."""
    uris = []
    while len(uris) < count:
        values = draw_recipe(world.random) | {"name": f"hostile{len(uris)}"}
        try:
            read_recipe(values)
            world.save(to_text(values))
        except InvalidRecipeError:
            continue
        uris.append(f"at://{SERVICE}/app.bsky.feed.generator/{values['name']}")
    return uris


def read(url: str, feed: str) -> int:
    query = urlencode({"feed": feed, "limit": 50})
    try:
        with urllib.request.urlopen(
            f"{url}/xrpc/{SKELETON}?{query}", timeout=20
        ) as got:
            got.read()
            return int(got.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def measure(url: str, requests: int) -> float:
    """Return the median seconds of a page of the plain feed."""
    times = []
    for _ in range(requests):
        started = time.perf_counter()
        assert read(url, PLAIN) == 200
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def beside(url: str, feeds: list[str], requests: int) -> tuple[float, list[int]]:
    """Measure while two clients read these feeds in turn; return their statuses too."""
    statuses: list[int] = []
    stop = threading.Event()

    def read_on() -> None:
        for feed in cycle(feeds):
            statuses.append(read(url, feed))
            if stop.is_set():
                return

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    median = measure(url, requests)
    stop.set()
    for reader in readers:
        reader.join()
    return median, statuses


@pytest.mark.timeout(1800)
def test_plain_feed_is_served_beside_hostile_ones(index_db: str, long: bool) -> None:
    posts, hostile, requests = (2_000, 300, 300) if long else (60, 12, 15)
    with open_world(index_db) as world:
        world.save(make_recipe('search = "cat"', name="plain"))
        times: Times = {"post, alone": write(world, posts)}
        with serve_index(world.pool, world.private.pool) as (url, app):
            times["page, alone"] = measure(url, requests)
            uris = save_hostile(world, hostile)
            world.fill()
            app.feeds.forget()
            times["post, with hostile recipes"] = write(world, posts)
            times["page, with hostile recipes"] = measure(url, requests)
            times["page, beside two readers of it"], _ = beside(url, [PLAIN], requests)
            times["page, beside two readers of hostile feeds"], statuses = beside(
                url, uris, requests
            )
    # Personal feeds ask for a login.
    assert {*statuses} <= {200, 401, 429}
    assert 200 in statuses
    report: dict[str, Any] = {name: round(s * 1e3, 2) for name, s in times.items()}
    text = json.dumps(report, indent=1)
    Path(os.environ.get("HOSTILE_FEEDS", os.devnull)).write_text(text)
