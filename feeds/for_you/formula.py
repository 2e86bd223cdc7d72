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
from operator import itemgetter
from typing import Any, Final, NamedTuple

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

    `via` are the liked posts of the strongest paths, `times` those of the posts.
    """

    numbers: NDArray[np.int32]
    weights: Floats
    paths: NDArray[np.intp]
    via: NDArray[np.int64]
    times: NDArray[np.int32]

    def take(self, chosen: NDArray[Any]) -> _Ends:
        """Return the posts at some places, or those of a mask."""
        return _Ends(
            self.numbers[chosen],
            self.weights[chosen],
            self.paths[chosen],
            self.via[chosen],
            self.times[chosen],
        )


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
    times = graph.posted_at[numbers]
    return _Ends(numbers, weights, np.bincount(places), strongest, times)


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
    known = [*taste.liked, *taste.more, *taste.less]
    ages = taste.until - ends.times
    shown = (ages >= 0) & (ages < p.window_s) & ~np.isin(ends.numbers, known)
    ends, ages = ends.take(shown), ages[shown]
    # By whole hours first: twice as many posts are then scored to the second.
    powers, hours = _tables(p)
    weights = ends.weights * powers[ends.paths]
    rough = weights * hours[ages // 3600]
    chosen = _best(rough, ends.numbers, 2 * p.candidates)
    authors = [graph.author_of(number) for number in ends.numbers[chosen].tolist()]
    foreign = np.array([author != taste.viewer for author in authors], bool)
    factors = _author_factors(graph, taste, authors, p)[foreign]
    chosen = chosen[foreign]
    weights = weights[chosen] * factors
    ends = ends.take(chosen)
    scores = np.rint(weights * np.exp2(-ages[chosen] / p.half_life_s))
    best = _best(scores, ends.numbers, p.candidates)
    columns = (ends.numbers, weights.astype(np.int64), ends.paths, ends.via)
    rows = zip(*(column[best].tolist() for column in columns), strict=True)
    return [Scored(*row) for row in rows]


def _author_factors(
    graph: LikeGraph, taste: Taste, authors: Sequence[int], p: Parameters
) -> Floats:
    """Return the factors of posts for what the viewer thinks of their authors."""
    liked = Counter(map(graph.author_of, taste.liked))
    unwanted = Counter(map(graph.author_of, taste.less))
    boost = p.author_affinity / max(1, len(taste.liked))
    return np.array(
        [(1 + boost * liked[a]) * p.less_author ** unwanted[a] for a in authors]
    )


def _best(scores: Floats, numbers: NDArray[np.int32], most: int) -> NDArray[np.intp]:
    """Return the places of the highest scores, the best first; numbers break ties."""
    found = np.arange(len(scores))
    if len(scores) > most:
        least = np.partition(scores, -most)[-most]
        found = np.flatnonzero(scores >= least)
    return found[np.lexsort((numbers[found], scores[found]))[::-1][:most]]


@lru_cache(maxsize=4)
def _tables(p: Parameters) -> tuple[Floats, Floats]:
    """Return the factors of a number of paths, and of an age in hours."""
    powers = [float(n**p.path_exponent) for n in range(p.co_likers + 1)]
    hours = [2.0 ** (-3600 * n / p.half_life_s) for n in range(p.window_s // 3600 + 1)]
    return np.array(powers), np.array(hours)
