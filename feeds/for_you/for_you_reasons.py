"""The place of a post in a For You feed, or the reason why it has none, in words."""

from __future__ import annotations

from typing import Final

from feeds.for_you.co_likes import (
    FEW_POSTS,
    NO_LIKES,
    SIGNED_OUT,
    WARMING_UP,
    CoLikes,
)
from feeds.for_you.formula import find_co_likers
from feeds.for_you.like_graph import LikeGraph, actors_of
from feeds.for_you.rankings import Ranking, still_liked
from feeds.opt_outs import find_opted_out
from feeds.skeleton import FeedRequest
from storage.postgres.instants import micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses, name_addresses_in

_MICROS: Final = 1_000_000
_HOUR: Final = 3600
_DAY: Final = 86_400
WHY_POPULAR: Final = {
    SIGNED_OUT: "nobody is signed in",
    WARMING_UP: "the likes of the network are still being read",
    NO_LIKES: "you like no post that is in memory",
    FEW_POSTS: "few posts are liked by accounts that like what you like",
}
"""Reasons for popular posts, by their short form in `feedContext`."""


def explain(conn: Conn, request: FeedRequest, post: Address) -> str:
    """Return "in, at rank …" or "not in: …" for a post, as the first page is now."""
    co_likes = request.co_likes or CoLikes()
    until, now = co_likes.settled(), co_likes.now()
    ranking = co_likes.ranking(conn, request.viewer, until, request.feedback, now)
    uri = name_addresses_in(conn, [post]).get(post, "")
    rank = _rank(ranking, post)
    if rank is not None:
        if request.feedback.has_seen(uri, now):
            return "not in: you have seen it before"
        return _describe(conn, co_likes, ranking, rank)
    return f"not in: {_why_not(conn, co_likes, request, post, until)}"


def _rank(ranking: Ranking, post: Address) -> int | None:
    """Return the number of a post's place in a ranking, 0 is the best."""
    places = (ranking.place(number).post for number in range(len(ranking)))
    return next((n for n, found in enumerate(places) if found == post), None)


def _describe(conn: Conn, co_likes: CoLikes, ranking: Ranking, rank: int) -> str:
    place = ranking.place(rank)
    where = f"in, at rank {rank + 1} of {len(ranking)}"
    if place.via is None:
        return f"{where}: a popular post, because {WHY_POPULAR[ranking.why_popular]}"
    via = name_addresses_in(conn, [place.via]).get(place.via, "a deleted post")
    hours = co_likes.parameters.half_life_s // _HOUR
    return (
        f"{where}: {place.paths} accounts that like what you like also like it;"
        f" the strongest path is your like of {via};"
        f" its score of {place.score} halves every {hours} hours"
    )


def _why_not(
    conn: Conn, co_likes: CoLikes, request: FeedRequest, post: Address, until: int
) -> str:
    row = conn.execute(
        f"SELECT {micros_sql('sort_at')}, parent_rkey FROM post"
        " WHERE actor = %s AND rkey = %s",
        (post.actor, post.rkey),
    ).fetchone()
    p = co_likes.parameters
    if row is None:
        return "the index has no such post"
    at, parent = row
    if post.actor == request.viewer:
        return "it is your own post"
    if parent is not None:
        return "it is a reply"
    if at > until:
        return "it is too new: likes count a minute after they were made"
    if at <= until - p.window_s * _MICROS:
        return f"it is older than {p.window_s // _DAY} days"
    if find_opted_out(conn, [post.actor]):
        return "its author asked not to be recommended"
    if request.viewer is None:
        return "nobody is signed in, and it is not popular enough"
    if still_liked(conn, request.viewer, [post]):
        return "you like it already"
    if post in find_addresses(conn, request.feedback.less).values():
        return "you asked to see less like it"
    if co_likes.graph is None:
        return "the likes of the network are still being read"
    return _why_no_path(conn, co_likes, co_likes.graph, request, post, until)


def _why_no_path(
    conn: Conn,
    co_likes: CoLikes,
    graph: LikeGraph,
    request: FeedRequest,
    post: Address,
    until: int,
) -> str:
    assert request.viewer is not None
    p = co_likes.parameters
    number = graph.number_of(post)
    if number is None:
        return f"nobody liked it in the last {p.history_s // _DAY} days"
    told = request.feedback.newest(co_likes.now())
    taste = co_likes.taste(conn, graph, request.viewer, until, request.feedback, told)
    if not taste.liked and not taste.more:
        return f"{WHY_POPULAR[NO_LIKES]}, and it is not popular enough"
    weights = find_co_likers(graph, taste, p).weights
    likers = actors_of([graph.likers_of(number, taste.until, p.likers)])
    if weights.keys().isdisjoint(likers.tolist()):
        return "no account that likes what you like also likes it"
    return f"its score is below the best {p.results}"
