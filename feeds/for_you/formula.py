"""The formula of For You: posts at the end of the paths from a viewer, with scores.

Weights are integers in units of 2**-43, so that their sum does not depend on the order
of likes: each serving process computes the same scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import nlargest
from operator import itemgetter
from typing import Final

from feeds.for_you.like_graph import LikeGraph
from feeds.for_you.parameters import Parameters

ONE: Final = 1 << 43
"""The weight of all paths of a viewer together."""
_PATH: Final = 1 << 44
_WEIGHT: Final = _PATH - 1
_SAMPLE: Final = 200
_NEWEST: Final = 20
"""Likers of a post that are looked at first for its reason."""


@dataclass(frozen=True, slots=True)
class Taste:
    """Likes and feedback of a viewer at a time: posts by their numbers in the graph.

    `until` is in seconds since the graph's beginning. `less` are posts of which the
    viewer wants to see less, `more` count as likes.
    """

    viewer: int
    until: int
    liked: Sequence[int]
    less: Collection[int] = ()
    more: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A post with its weight, and the number of co-likers that like it.

    `via` is the liked post of the strongest path to it.
    """

    number: int
    weight: int
    paths: int
    via: int | None


@dataclass(frozen=True, slots=True)
class CoLikers:
    """Accounts that like what the viewer likes, with the weights of their paths."""

    weights: Mapping[int, int]
    via: Mapping[int, int] = field(default_factory=dict)
    """The strongest liked post that leads to an account."""


def liked_by(graph: LikeGraph, viewer: int, until: int, p: Parameters) -> list[int]:
    """Return the newest posts that an account likes."""
    return [*graph.likes_of(viewer, until, p.likes)[0]]


def find_co_likers(graph: LikeGraph, taste: Taste, p: Parameters) -> CoLikers:
    """Return the strongest co-likers: sum of 1/|your likes| · 1/|the post's likes|."""
    liked = dict.fromkeys((*taste.liked, *taste.more))
    if not liked:
        return CoLikers({})
    weights: dict[int, int] = {}
    via: dict[int, int] = {}
    known = weights.get
    found = []
    for number in liked:
        likers = graph.likers_of(number, taste.until, p.likers)
        if likers:
            found.append((ONE // (len(liked) * len(likers)), number, likers))
    # The strongest last: it is the one that is kept as reason.
    for weight, number, likers in sorted(found, key=itemgetter(0, 1)):
        via.update(dict.fromkeys(likers, number))
        for actor in likers:
            weights[actor] = known(actor, 0) + weight
    weights.pop(taste.viewer, None)
    for number in taste.less:
        for actor in graph.likers_of(number, taste.until, p.likers):
            if actor in weights:
                weights[actor] = int(weights[actor] * p.less_liker)
    strongest = nlargest(p.co_likers, weights.items(), key=itemgetter(1, 0))
    return CoLikers(dict(strongest), via)


def score_posts(
    graph: LikeGraph, taste: Taste, co_likers: CoLikers, p: Parameters
) -> list[Scored]:
    """Return the best candidates, the best first, without the viewer's own and liked.

    Their weight has all factors but that of age.
    """
    sums = _sum_paths(graph, taste, co_likers, p)
    for number in (*taste.liked, *taste.more, *taste.less):
        sums.pop(number, None)
    best = _select(graph, taste, sums, p)
    return [
        Scored(
            number,
            weight,
            sums[number] // _PATH,
            _via(graph, taste, co_likers, number, p),
        )
        for weight, number in best
    ]


def aged(weight: float, age_s: float, p: Parameters) -> int:
    """Return the score of a post: its weight, halved with each half-life."""
    halvings = max(0.0, age_s) / p.half_life_s
    return round(weight * math.pow(2, -halvings))


def _sum_paths(
    graph: LikeGraph, taste: Taste, co_likers: CoLikers, p: Parameters
) -> dict[int, int]:
    """Return by post: number of co-likers in the high bits, sum of weights below."""
    # A post is not younger than the like of it: older likes are of no candidate. With
    # too many paths, the oldest likes lead to posts with the least score.
    window = p.window_s
    paths = _estimate_paths(graph, taste.until, co_likers, p)
    if paths > p.steps:
        window = max(p.half_life_s, window * p.steps // paths)
    after = max(-1, taste.until - window)
    sums: dict[int, int] = {}
    steps = 0
    for actor, weight in co_likers.weights.items():
        posts, count = graph.likes_of(actor, taste.until, p.likes, after)
        if not posts:
            continue
        step = weight // count + _PATH
        for number in posts:
            if number in sums:
                sums[number] += step
            else:
                sums[number] = step
        steps += len(posts)
        if steps > p.steps:
            break
    return sums


def _estimate_paths(
    graph: LikeGraph, until: int, co_likers: CoLikers, p: Parameters
) -> int:
    """Return about the number of paths, from the likes of a few co-likers."""
    after = max(-1, until - p.window_s)
    actors = [*co_likers.weights]
    every = 1 + len(actors) // _SAMPLE
    sampled = actors[::every]
    likes = sum(len(graph.likes_of(one, until, p.likes, after)[0]) for one in sampled)
    return likes * len(actors) // max(1, len(sampled))


def _select(
    graph: LikeGraph, taste: Taste, sums: Mapping[int, int], p: Parameters
) -> list[tuple[int, int]]:
    """Return the weights and numbers of the best posts by aged score."""
    # By whole hours first: twice as many posts are then scored to the second.
    most = 2 * p.candidates
    items: Collection[tuple[int, int]] = sums.items()
    many = [item for item in items if item[1] >= 2 * _PATH]
    chosen = nlargest(most, _roughly(graph, taste, many, p))
    # A score is not higher than the weight of a single path. Most posts have one.
    least = int(chosen[-1][0]) if len(chosen) == most else 0
    single = [item for item in items if _PATH + least <= item[1] < 2 * _PATH]
    chosen = nlargest(most, chosen + _roughly(graph, taste, single, p))
    author_of = graph.author_of
    authors = Counter(map(author_of, taste.liked))
    unwanted = Counter(map(author_of, taste.less))
    likes = max(1, len(taste.liked))
    exact = []
    for _, number in chosen:
        author = author_of(number)
        if author == taste.viewer:
            continue
        total = sums[number]
        weight: float = (total & _WEIGHT) * (total // _PATH) ** p.path_exponent
        weight *= 1 + p.author_affinity * authors[author] / likes
        weight *= p.less_author ** unwanted[author]
        age = taste.until - graph.posted_at[number]
        exact.append((aged(weight, age, p), int(weight), number))
    return [(weight, number) for _, weight, number in nlargest(p.candidates, exact)]


def _roughly(
    graph: LikeGraph, taste: Taste, items: Collection[tuple[int, int]], p: Parameters
) -> list[tuple[float, int]]:
    """Return scores and numbers of posts, without the factors of their authors."""
    posted_at, until = graph.posted_at, taste.until
    oldest = until - p.window_s
    powers, hours = _tables(p)
    return [
        (
            (total & _WEIGHT)
            * powers[total >> 44]
            * hours[(until - posted_at[number]) // 3600],
            number,
        )
        for number, total in items
        if oldest < posted_at[number] <= until
    ]


@lru_cache(maxsize=4)
def _tables(p: Parameters) -> tuple[list[float], list[float]]:
    """Return the factors of a number of paths, and of an age in hours."""
    powers = [float(n**p.path_exponent) for n in range(p.co_likers + 1)]
    hours = [2.0 ** (-3600 * n / p.half_life_s) for n in range(p.window_s // 3600 + 1)]
    return powers, hours


def _via(
    graph: LikeGraph, taste: Taste, co_likers: CoLikers, number: int, p: Parameters
) -> int | None:
    """Return the liked post of the strongest co-liker that likes a post."""
    weights = co_likers.weights
    for most in (_NEWEST, p.likers):
        likers = graph.likers_of(number, taste.until, most)
        found = [(weights[actor], actor) for actor in likers if actor in weights]
        if found:
            return co_likers.via.get(max(found)[1])
    return None
