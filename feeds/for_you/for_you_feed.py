"""For You: posts that accounts with your taste like, for each reader.

A page is a slice of one ranking. The keyset has the time of the ranking and that of the
first page: a ranking that is no longer held is made again as of these.
"""

from __future__ import annotations

from typing import Any, Final

from feeds.for_you.co_likes import CoLikes
from feeds.for_you.rankings import Place, Ranking
from feeds.skeleton import Algorithm, FeedRequest, SkeletonEntry, SkeletonItem
from storage.postgres.pool import Conn
from storage.records.addresses import Address, name_addresses_in

NAME: Final = "for-you"
_COLD: Final = CoLikes()
"""Without likes in memory: popular posts."""
_NAMED: Final = 100
"""Places that are named at once, to leave out seen ones."""


def build(conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
    """Return a page of entries, without posts that the reader has seen before."""
    co_likes = request.co_likes or _COLD
    if request.after is None:
        until, first_at = co_likes.settled(), co_likes.now()
    else:
        *_, until, first_at = request.after
    ranking = co_likes.ranking(conn, request.viewer, until, request.feedback, first_at)
    start = ranking.after(_position(request.after)) if request.after else 0
    chosen: list[Place] = []
    while len(chosen) < request.limit and start < len(ranking):
        end = min(len(ranking), start + max(_NAMED, request.limit))
        places = [ranking.place(number) for number in range(start, end)]
        chosen += _unseen(conn, request, places, first_at)
        start = end
    del chosen[request.limit :]
    contexts = _contexts(conn, ranking, chosen)
    return [
        SkeletonEntry(
            SkeletonItem(place.post, feed_context=context),
            [place.score, place.actor, place.rkey, until, first_at],
        )
        for place, context in zip(chosen, contexts, strict=True)
    ]


def _position(after: list[Any]) -> tuple[int, int, int]:
    score, actor, rkey = after[:3]
    return score, actor, rkey


def _unseen(
    conn: Conn, request: FeedRequest, places: list[Place], first_at: int
) -> list[Place]:
    """Return the places of posts that were not seen before the first page."""
    feedback = request.feedback
    if not feedback.seen:
        return places
    uris = name_addresses_in(conn, [place.post for place in places])
    return [
        place
        for place in places
        if not feedback.has_seen(uris.get(place.post, ""), first_at)
    ]


def _contexts(conn: Conn, ranking: Ranking, places: list[Place]) -> list[str]:
    """Return the reason of each place, for clients to send back."""
    likes = {place.via for place in places if place.via is not None}
    uris: dict[Address, str] = name_addresses_in(conn, likes) if likes else {}
    return [
        f"{NAME} co-likes paths={place.paths} via={uris.get(place.via, '-')}"
        if place.via is not None
        else f"{NAME} popular {ranking.why_popular}"
        for place in places
    ]


FEED: Final = Algorithm(
    name=NAME,
    display_name="For You",
    description="Posts that people like who like what you like.",
    build=build,
    personal=True,
    uses_feedback=True,
)
