"""The formula of For You beside a naive form of it, on small graphs."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.for_you.formula import (
    ONE,
    Taste,
    aged,
    find_co_likers,
    liked_by,
    score_posts,
)
from feeds.for_you.like_graph import LIKERS_KEPT, POST, LikeGraph, actors_of
from feeds.for_you.parameters import PUBLISHED, Parameters
from storage.records.addresses import Address

NOW = 1_000_000
VIEWER = 1
Like = tuple[int, int, int, int]
"""Account, author and number of the post, time."""

# Few posts and accounts, so that most graphs have paths.
likes = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from((1, 7, 8)),
        st.integers(-3, -1),
        st.one_of(
            st.integers(NOW - 86_400, NOW),
            st.integers(NOW - 9 * 86_400, NOW + 100),
        ),
    ),
    min_size=10,
    max_size=40,
    unique_by=lambda like: like[:3],
)
parameters = st.builds(
    Parameters,
    likes=st.integers(1, 5),
    likers=st.integers(1, 5),
    co_likers=st.integers(1, 5),
    path_exponent=st.sampled_from((0.0, 0.3, 1.0)),
    author_affinity=st.sampled_from((0.0, 1.0)),
)


def make_graph(found: list[Like]) -> LikeGraph:
    graph = LikeGraph()
    for like in found:
        assert graph.add(*like)
    return graph


def naive_scores(found: list[Like], p: Parameters) -> dict[Address, float]:
    """Return all scores, with every path walked by itself."""
    first: dict[Address, int] = {}
    of_account: dict[int, list[tuple[int, Address]]] = defaultdict(list)
    of_post: dict[Address, list[tuple[int, int]]] = defaultdict(list)
    for actor, author, rkey, at in found:
        post = Address(author, POST, rkey)
        first[post] = min(at, first.get(post, at))
        if at <= NOW:
            of_account[actor].append((at, post))
            of_post[post].append((at, actor))
    newest = {
        actor: [post for _, post in sorted(mine, key=lambda one: one[0])[-p.likes :]]
        for actor, mine in of_account.items()
    }
    mine = newest.get(VIEWER, [])
    weights: dict[int, float] = defaultdict(float)
    for post in mine:
        likers = [actor for _, actor in sorted(of_post[post])[-p.likers :]]
        for liker in likers:
            weights[liker] += 1 / len(mine) / len(likers)
    weights.pop(VIEWER, None)
    best = sorted(weights, key=lambda u: (round(weights[u], 9), u))[-p.co_likers :]
    scores: dict[Address, float] = defaultdict(float)
    paths: Counter[Address] = Counter()
    for liker in best:
        for post in newest[liker]:
            scores[post] += weights[liker] / len(newest[liker])
            paths[post] += 1
    authors = Counter(post.actor for post in mine)
    return {
        post: score
        * paths[post] ** p.path_exponent
        * (1 + p.author_affinity * authors[post.actor] / len(mine))
        * 0.5 ** ((NOW - first[post]) / p.half_life_s)
        for post, score in scores.items()
        if post not in mine
        and post.actor != VIEWER
        and NOW - p.window_s < first[post] <= NOW
    }


def times_differ(found: list[Like]) -> list[Like]:
    """Return likes with distinct times: at equal ones any order is right."""
    seen: set[int] = set()
    kept = []
    for like in found:
        if like[3] not in seen:
            seen.add(like[3])
            kept.append(like)
    return kept


@given(likes, parameters)
def test_scores_are_those_of_every_path(found: list[Like], p: Parameters) -> None:
    found = times_differ(found)
    graph = make_graph(found)
    taste = Taste(VIEWER, NOW, liked_by(graph, VIEWER, NOW, p))
    co_likers = find_co_likers(graph, taste, p)
    scored = score_posts(graph, taste, co_likers, p)
    weights = co_likers.weights
    for post in scored:
        likers = [
            a for a in weights if post.number in graph.likes_of(a, NOW, p.likes)[0]
        ]
        strongest = max(likers, key=lambda actor: (weights[actor], actor))
        assert post.via == co_likers.via[strongest]
    scores = {
        graph.address_of(post.number): aged(
            post.weight, NOW - graph.posted_at[post.number], p
        )
        / ONE
        for post in scored
    }
    expected = naive_scores(found, p)
    # A score below the unit of weights is rounded to nothing.
    assert scores.keys() == expected.keys()
    for address, score in expected.items():
        assert scores[address] == pytest.approx(score, rel=1e-6, abs=1e-9)


@given(likes)
def test_scores_do_not_depend_on_the_order_of_likes(found: list[Like]) -> None:
    found = times_differ(found)
    results = []
    for ordered in (found, sorted(found, key=lambda like: like[3]), found[::-1]):
        graph = make_graph(ordered)
        taste = Taste(VIEWER, NOW, liked_by(graph, VIEWER, NOW, PUBLISHED))
        co_likers = find_co_likers(graph, taste, PUBLISHED)
        scored = score_posts(graph, taste, co_likers, PUBLISHED)
        results.append(
            {graph.address_of(s.number): (s.weight, s.paths) for s in scored}
        )
    assert results[0] == results[1] == results[2]


def taste_of(graph: LikeGraph, **told: list[int]) -> Taste:
    return Taste(VIEWER, NOW, liked_by(graph, VIEWER, NOW, PUBLISHED), **told)


def scores_of(graph: LikeGraph, taste: Taste, p: Parameters = PUBLISHED) -> list[int]:
    """Return the record keys of the posts, the best first."""
    scored = score_posts(graph, taste, find_co_likers(graph, taste, p), p)
    return [graph.address_of(post.number).rkey for post in scored]


def number_of(graph: LikeGraph, author: int, rkey: int) -> int:
    number = graph.number_of(Address(author, POST, rkey))
    assert number is not None
    return number


def test_see_less_pushes_down_author_and_co_likers() -> None:
    shared = [(actor, 9, -1, NOW - 50) for actor in (VIEWER, 2, 3)]
    graph = make_graph(
        [
            *shared,
            (2, 10, -11, NOW - 10),
            (2, 11, -12, NOW - 10),
            (2, 12, -13, NOW - 10),
            (3, 13, -14, NOW - 10),
            (3, 10, -15, NOW - 10),
            (3, 14, -16, NOW - 10),
        ]
    )
    before = scores_of(graph, taste_of(graph))
    assert {*before} == {-11, -12, -13, -14, -15, -16}
    unwanted = number_of(graph, 10, -11)
    after = scores_of(graph, taste_of(graph, less=[unwanted]))
    assert -11 not in after
    # The author's other post is last, and the paths of account 2 are weaker.
    assert after[-1] == -15
    assert {*after[:2]} == {-14, -16}


def test_see_more_counts_as_a_like() -> None:
    graph = make_graph([(2, 9, -1, NOW - 50), (2, 10, -2, NOW - 10)])
    assert scores_of(graph, taste_of(graph)) == []
    wanted = number_of(graph, 9, -1)
    assert scores_of(graph, taste_of(graph, more=[wanted])) == [-2]


def test_bounds_keep_the_strongest() -> None:
    """A co-liker with many shared likes counts, one with a single one does not."""
    likes_ = [(VIEWER, 9, -n, NOW - 100 - n) for n in range(1, 9)]
    likes_ += [(2, 9, -n, NOW - 50 - n) for n in range(1, 9)]
    likes_ += [(3, 9, -1, NOW - 10)]
    likes_ += [(2, 10, -20, NOW - 5), (3, 10, -30, NOW - 5)]
    graph = make_graph(likes_)
    bounded = replace(PUBLISHED, co_likers=1)
    assert scores_of(graph, taste_of(graph), bounded) == [-20]
    assert {*scores_of(graph, taste_of(graph))} == {-20, -30}


def test_many_single_paths_do_not_displace_better_posts() -> None:
    p = replace(PUBLISHED, candidates=4, results=4)
    likes_ = [(actor, 9, -1, NOW - 900) for actor in (VIEWER, 2, 3, 4)]
    for number in range(10, 30):
        likes_ += [(2, 20, -number, NOW - number), (3, 20, -number, NOW - number)]
    likes_ += [(3, 20, -number, NOW - number) for number in range(40, 90)]
    # The only like of account 4: one strong path.
    likes_ += [(4, 20, -7, NOW - 1)]
    found = scores_of(make_graph(likes_), taste_of(make_graph(likes_)), p)
    assert found[0] == -7
    assert len(found) == 4
    assert all(-30 < rkey <= -7 for rkey in found)


def test_graph_keeps_the_newest_likers_of_a_post() -> None:
    graph = make_graph(
        [(actor, 9, -1, NOW + actor) for actor in range(1, LIKERS_KEPT + 100)]
    )
    number = number_of(graph, 9, -1)
    kept = actors_of([graph.likers_of(number, NOW + 10_000, LIKERS_KEPT)]).tolist()
    assert kept == [*range(LIKERS_KEPT + 100 - len(kept), LIKERS_KEPT + 100)]
    assert len(kept) >= LIKERS_KEPT // 2
    assert not graph.add(LIKERS_KEPT + 99, 9, -1, NOW)
    assert not graph.likers_of(number, NOW, 5)


def test_record_key_of_the_future_does_not_make_a_post_young() -> None:
    future = (4_000_000_000 * 1_000_000) << 10
    past = ((NOW - 50_000) * 1_000_000) << 10
    graph = make_graph([(2, 9, future, NOW - 70), (2, 9, past, NOW - 70)])
    graph.add(3, 9, future, NOW - 90)
    assert graph.posted_at[number_of(graph, 9, future)] == NOW - 90
    assert graph.posted_at[number_of(graph, 9, past)] == NOW - 50_000
