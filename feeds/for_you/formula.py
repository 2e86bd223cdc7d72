"""The formula of For You: posts at the end of the paths from a viewer, with scores.

Weights are integers in units of 2**-43, so that their sum does not depend on the order
of likes: each serving process computes the same scores.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import nlargest
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feeds.for_you.like_graph import LikeGraph, actors_of
from feeds.for_you.parameters import Parameters

ONE: Final = 1 << 43
"""The weight of all paths of a viewer together."""
_SAMPLE: Final = 200


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
    via: int


Floats = NDArray[np.float64]


class _Ends(NamedTuple):
    """The ends of paths: posts by number, with sums of weights, and co-likers.

    `via` are the liked posts of the strongest paths.
    """

    numbers: NDArray[np.int32]
    weights: Floats
    paths: NDArray[np.intp]
    via: NDArray[np.int64]


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
    found = []
    for number in liked:
        likers = graph.likers_of(number, taste.until, p.likers)
        if likers:
            found.append((ONE // (len(liked) * len(likers)), number, likers))
    if not found:
        return CoLikers({})
    # The strongest last: it is the one that is kept as reason.
    found.sort(key=itemgetter(0, 1))
    sizes = [len(likers) for _, _, likers in found]
    actors, places = np.unique(
        actors_of(likers for _, _, likers in found), return_inverse=True
    )
    # Exact: no sum is above ONE, and a float holds integers up to 2**53.
    sums = np.bincount(places, np.repeat([weight for weight, *_ in found], sizes))
    weights = sums.astype(np.int64)
    via = np.zeros(len(actors), np.int64)
    via[places] = np.repeat([number for _, number, _ in found], sizes)
    for number in taste.less:
        less = actors_of([graph.likers_of(number, taste.until, p.likers)])
        unwanted = np.isin(actors, less)
        weights[unwanted] = (weights[unwanted] * p.less_liker).astype(np.int64)
    order = np.lexsort((actors, weights))[::-1]
    order = order[actors[order] != taste.viewer][: p.co_likers]
    strongest = actors[order].tolist()
    return CoLikers(
        dict(zip(strongest, weights[order].tolist(), strict=True)),
        dict(zip(strongest, via[order].tolist(), strict=True)),
    )


def score_posts(
    graph: LikeGraph, taste: Taste, co_likers: CoLikers, p: Parameters
) -> list[Scored]:
    """Return the best candidates, the best first, without the viewer's own and liked.

    Their weight has all factors but that of age.
    """
    ends = _sum_paths(graph, taste, co_likers, p)
    return _select(graph, taste, ends, p)


def aged(weight: float, age_s: float, p: Parameters) -> int:
    """Return the score of a post: its weight, halved with each half-life."""
    halvings = max(0.0, age_s) / p.half_life_s
    return round(weight * math.pow(2, -halvings))


def _sum_paths(
    graph: LikeGraph, taste: Taste, co_likers: CoLikers, p: Parameters
) -> _Ends:
    # A post is not younger than the like of it: older likes are of no candidate. With
    # too many paths, the oldest likes lead to posts with the least score.
    window = p.window_s
    paths = _estimate_paths(graph, taste.until, co_likers, p)
    if paths > p.steps:
        window = max(p.half_life_s, window * p.steps // paths)
    after = max(-1, taste.until - window)
    found: list[array[int]] = []
    steps: list[int] = []
    via: list[int] = []
    total = 0
    weights_of = co_likers.weights
    likes = graph.likes_of_each(weights_of, taste.until, p.likes, after)
    for (actor, weight), (posts, count) in zip(weights_of.items(), likes, strict=True):
        if not posts:
            continue
        found.append(posts)
        steps.append(weight // count)
        via.append(co_likers.via[actor])
        total += len(posts)
        if total > p.steps:
            break
    # The strongest co-liker is the first: its path is the first to a post.
    numbers, first, places = np.unique(
        np.frombuffer(b"".join(found), np.int32), return_index=True, return_inverse=True
    )
    sizes = [len(posts) for posts in found]
    each: Floats = np.repeat(np.array(steps, np.float64), sizes)
    weights: Floats = np.bincount(places, weights=each).astype(np.float64)
    strongest = np.repeat(np.array(via, np.int64), sizes)[first]
    return _Ends(numbers, weights, np.bincount(places), strongest)


def _estimate_paths(
    graph: LikeGraph, until: int, co_likers: CoLikers, p: Parameters
) -> int:
    """Return about the number of paths, from the likes of a few co-likers."""
    after = max(-1, until - p.window_s)
    actors = [*co_likers.weights]
    every = 1 + len(actors) // _SAMPLE
    sampled = actors[::every]
    found = graph.likes_of_each(sampled, until, p.likes, after)
    likes = sum(len(posts) for posts, _ in found)
    return likes * len(actors) // max(1, len(sampled))


def _select(graph: LikeGraph, taste: Taste, ends: _Ends, p: Parameters) -> list[Scored]:
    """Return the best posts by aged score, the best first."""
    # By whole hours first: twice as many posts are then scored to the second.
    numbers = ends.numbers
    known = [*taste.liked, *taste.more, *taste.less]
    times = graph.posted_at[numbers]
    kept = (times > taste.until - p.window_s) & (times <= taste.until)
    kept &= ~np.isin(numbers, known)
    numbers, weights, times = numbers[kept], ends.weights[kept], times[kept]
    paths, via = ends.paths[kept], ends.via[kept]
    powers, hours = _tables(p)
    rough = weights * powers[paths] * hours[(taste.until - times) // 3600]
    chosen = np.lexsort((numbers, rough))[: -2 * p.candidates - 1 : -1]
    author_of = graph.author_of
    authors = Counter(map(author_of, taste.liked))
    unwanted = Counter(map(author_of, taste.less))
    likes = max(1, len(taste.liked))
    exact = []
    columns = (
        column[chosen].tolist() for column in (numbers, weights, paths, via, times)
    )
    for number, sum_of, count, liked, posted_at in zip(*columns, strict=True):
        author = author_of(number)
        if author == taste.viewer:
            continue
        weight = sum_of * count**p.path_exponent
        weight *= 1 + p.author_affinity * authors[author] / likes
        weight *= p.less_author ** unwanted[author]
        score = aged(weight, taste.until - posted_at, p)
        exact.append((score, int(weight), number, count, liked))
    best = nlargest(p.candidates, exact)
    return [
        Scored(number, weight, count, liked) for _, weight, number, count, liked in best
    ]


@lru_cache(maxsize=4)
def _tables(p: Parameters) -> tuple[Floats, Floats]:
    """Return the factors of a number of paths, and of an age in hours."""
    powers = [float(n**p.path_exponent) for n in range(p.co_likers + 1)]
    hours = [2.0 ** (-3600 * n / p.half_life_s) for n in range(p.window_s // 3600 + 1)]
    return np.array(powers), np.array(hours)
