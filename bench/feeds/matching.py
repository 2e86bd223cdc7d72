"""The cost of matching posts with the recipes of many feeds while they are applied."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Final

from bench.index import LostError, open_index
from bench.metric import Metric, Progress
from bench.search.post_stream import RATE, StreamRun, Texts, Writers, stream
from feeds.recipes.saving import put_recipe
from feeds.serving.recipe_matcher import RecipeMatcher
from search.matches.match_pass import DrainedRecords, MatchPass
from storage.private.private_store import PrivateStore

_FEEDS: Final = 1_000
_OF_ACCOUNT: Final = 50
_SECONDS: Final = 20
_QUICK: Final = 10
"""Divisor of feeds and seconds in a quick run."""
_MOST_FREQUENT: Final = 30
"""Words that are too frequent for a feed."""
_SERVICE: Final = "did:web:provider.example.com"
_FILTERS: Final = ("", '[filter]\nlanguages = ["en"]', '[filter]\nreplies = "no"')


def measure_matching(bench: str, quick: bool, progress: Progress) -> list[Metric]:
    """Return the share of ingest that is matching: time of apply and drain together.

    The posts come at a fixed rate. Raises LostError if the drain does not keep up, or
    if no feed has got a candidate.
    """
    part = _QUICK if quick else 1
    feeds, count = _FEEDS // part, RATE * _SECONDS // part
    texts = Texts(random.Random(1))
    with open_index() as index:
        private = PrivateStore(index.pool)
        for number in range(feeds):
            put_recipe(
                private,
                index.pool.connection,
                f"did:plc:{number // _OF_ACCOUNT:024d}",
                _recipe(texts, number),
                service_did=_SERVICE,
            )
        matching = MatchPass(partial(RecipeMatcher, private, _SERVICE))
        started = time.perf_counter()
        with index.pool.connection() as conn:
            matching.log_matches(conn, DrainedRecords((), ()))
        load_s = time.perf_counter() - started
        writers = Writers(texts)
        done = stream(index, [*writers.commits(count, 0)], matching.log_matches)
        progress.count("posts", count, count)
        candidates = index.ask("SELECT count(*) FROM feed_candidate")
    if not candidates:
        raise LostError("no feed has got a candidate")
    return [
        Metric(bench, "recipes", feeds, "recipes"),
        Metric(bench, "recipes_load_s", load_s, "s"),
        Metric(bench, "candidates_per_post", candidates / count, "candidates"),
        Metric(bench, "matching_share", _share(done), "of ingest"),
        Metric(bench, "matching_ms_per_post", done.matching_s * 1e3 / count, "ms"),
    ]


def _share(done: StreamRun) -> float:
    return done.matching_s / (done.apply_s + done.drain_s)


def _recipe(texts: Texts, number: int) -> str:
    # Every fourth feed has a word that is in many posts.
    query = texts.query(number) if number % 4 else texts.word(_MOST_FREQUENT)
    query = query.replace('"', '\\"')
    return "\n".join(
        (
            f'name = "feed-{number}"',
            f'title = "Feed {number}"',
            f'[[source]]\nsearch = "{query}"',
            _FILTERS[number % len(_FILTERS)],
        )
    )
