"""The likes in memory and the rankings made of them, for all requests of a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from feeds.algorithms import popular
from feeds.feedback import Feedback
from feeds.for_you.formula import Taste, find_co_likers, liked_by, score_posts
from feeds.for_you.like_graph import LikeGraph
from feeds.for_you.like_reader import (
    MAX_NEW,
    LoadStoppedError,
    add_new_likes,
    load_graph,
)
from feeds.for_you.parameters import PUBLISHED, Parameters
from feeds.for_you.rankings import (
    HeldRankings,
    Place,
    Ranking,
    find_candidates,
    place_scored,
    still_liked,
)
from storage.postgres.pool import Conn, Pool
from storage.records.addresses import Address, find_addresses

log = structlog.get_logger(__name__)

RELOAD_S: Final = 6 * 3600
"""Seconds after which all likes are read again: deleted ones are then forgotten."""
_MICROS: Final = 1_000_000
_POPULAR: Final = 200
"""Popular posts of a ranking, before those that may not be shown are left out."""

SIGNED_OUT: Final = "signed-out"
WARMING_UP: Final = "warming-up"
NO_LIKES: Final = "no-likes"
FEW_POSTS: Final = "few-posts"


class CoLikes:
    """Likes in memory, kept up to date by `refresh` from one thread."""

    def __init__(
        self,
        parameters: Parameters = PUBLISHED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.parameters = parameters
        self.graph: LikeGraph | None = None
        self.read_until = 0
        """The time of the last read, in seconds since 1970."""
        self._loaded_at = 0
        self._clock = clock
        self._reading: Conn | None = None
        self._stopped = False
        self._held = HeldRankings()
        self._popular_then: tuple[int, list[Address]] = (0, [])

    def refresh(self, pool: Pool) -> bool:
        """Read new likes, or all of them if it is time; return False.

        Raises psycopg.Error.
        """
        try:
            with pool.connection() as conn:
                self._reading = conn
                if not self._stopped:
                    self.read(conn)
        except LoadStoppedError:
            log.info("likes_load_stopped")
        finally:
            self._reading = None
        return False

    def stop(self) -> None:
        """End a running `refresh` soon, with psycopg.Error or an early return."""
        self._stopped = True
        conn = self._reading
        if conn is not None:
            conn.cancel()

    def read(self, conn: Conn) -> None:
        """Read new likes, or all of them if it is time, on one connection."""
        now = int(self._clock())
        graph = self.graph
        if (
            graph is not None
            and not self._is_worn(graph, now)
            and add_new_likes(conn, graph, self.read_until) < MAX_NEW
        ):
            self.read_until = now
            return
        started = time.monotonic()
        self.graph = graph = load_graph(
            conn, now, self.parameters, lambda: self._stopped
        )
        self.read_until = self._loaded_at = now
        log.info(
            "likes_loaded", likes=graph.size, seconds=round(time.monotonic() - started)
        )

    def _is_worn(self, graph: LikeGraph, now: int) -> bool:
        most = self.parameters.max_likes
        return now - self._loaded_at >= RELOAD_S or graph.size > most + most // 4

    def now(self) -> int:
        """Return the present in microseconds since 1970."""
        return int(self._clock() * _MICROS)

    def settled(self) -> int:
        """Return a time until which all likes are known, in microseconds since 1970."""
        p = self.parameters
        known = self.read_until if self.graph is not None else int(self._clock())
        return (known - p.settle_s) // p.hold_s * p.hold_s * _MICROS

    def ranking(
        self,
        conn: Conn,
        viewer: int | None,
        until: int,
        feedback: Feedback,
        told_until: int,
    ) -> Ranking:
        """Return the ranking for a viewer at a time, from memory if it is held.

        Feedback counts until `told_until`. Times are microseconds since 1970.
        """
        graph = self.graph
        told = feedback.newest(told_until)
        key = (viewer, until, told, graph is not None)
        ranking = self._held.get(key)
        if ranking is None:
            ranking = self._rank(conn, graph, viewer, until, feedback, told)
            self._held.put(key, ranking)
        return ranking

    def taste(
        self,
        conn: Conn,
        graph: LikeGraph,
        viewer: int,
        until: int,
        feedback: Feedback,
        told: int,
    ) -> Taste:
        """Return what is known of a viewer; likes that were deleted do not count."""
        seconds = until // _MICROS - graph.since
        liked = liked_by(graph, viewer, seconds, self.parameters)
        addresses = [graph.address_of(number) for number in liked]
        held = still_liked(conn, viewer, addresses)
        wanted = [
            [uri for uri, at in told_of.items() if at <= told]
            for told_of in (feedback.less, feedback.more)
        ]
        found = find_addresses(conn, wanted[0] + wanted[1]) if any(wanted) else {}
        less, more = (
            {
                number
                for uri in uris
                if uri in found and (number := graph.number_of(found[uri])) is not None
            }
            for uris in wanted
        )
        kept = [
            number
            for number, address in zip(liked, addresses, strict=True)
            if address in held and number not in less
        ]
        return Taste(viewer, seconds, kept, sorted(less), sorted(more))

    def _rank(
        self,
        conn: Conn,
        graph: LikeGraph | None,
        viewer: int | None,
        until: int,
        feedback: Feedback,
        told: int,
    ) -> Ranking:
        p = self.parameters
        places: list[Place] = []
        if viewer is None:
            why = SIGNED_OUT
        elif graph is None:
            why = WARMING_UP
        else:
            taste = self.taste(conn, graph, viewer, until, feedback, told)
            why = FEW_POSTS if taste.liked or taste.more else NO_LIKES
            scored = score_posts(graph, taste, find_co_likers(graph, taste, p), p)
            addresses = [graph.address_of(post.number) for post in scored]
            times = find_candidates(conn, viewer, addresses, until, p.window_s)
            places = place_scored(graph, scored, times, until, p)
        if len(places) < p.min_results:
            unwanted = {place.post for place in places}
            less = [uri for uri, at in feedback.less.items() if at <= told]
            unwanted.update(find_addresses(conn, less).values())
            places += self._popular(conn, viewer, until, unwanted)
        return Ranking(places, why)

    def _popular(
        self, conn: Conn, viewer: int | None, until: int, unwanted: set[Address]
    ) -> list[Place]:
        """Return popular posts of the time as places behind all others."""
        made_at, found = self._popular_then
        if made_at != until:
            found = popular.posts_at(conn, until, _POPULAR)
            self._popular_then = (until, found)
        posts = [post for post in found if post not in unwanted]
        shown = find_candidates(conn, viewer, posts, until, self.parameters.window_s)
        return [
            Place(-number, post.actor, post.rkey, 0)
            for number, post in enumerate(posts, 1)
            if post in shown
        ]
