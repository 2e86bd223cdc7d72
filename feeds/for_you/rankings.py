"""Rankings of posts for viewers, and the rules of the index that they obey."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from time import monotonic
from typing import Final, NamedTuple

from feeds.for_you.formula import Scored, aged
from feeds.for_you.like_graph import POST, LikeGraph
from feeds.for_you.parameters import Parameters
from feeds.opt_outs import find_opted_out
from storage.collections import LIKE_SUBJECT
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of

MAX_HELD: Final = 2_000
"""Rankings held in memory, of about 12 kB each."""
HELD_S: Final = 900.0
"""Seconds that a ranking is held."""
_MICROS: Final = 1_000_000
_LIKES: Final = partition_of(LIKE_SUBJECT)


class Place(NamedTuple):
    """A post of a ranking, which is sorted by score, account and record key.

    `paths` is the number of co-likers that like it, 0 for a popular post. `via` is the
    viewer's like of the strongest path.
    """

    score: int
    actor: int
    rkey: int
    paths: int
    via_actor: int = 0
    via_rkey: int = 0

    @property
    def post(self) -> Address:
        """Return the address of the post."""
        return Address(self.actor, POST, self.rkey)

    @property
    def via(self) -> Address | None:
        """Return the address of the liked post."""
        return Address(self.via_actor, POST, self.via_rkey) if self.paths else None


class Ranking:
    """Places in order, the best first, as columns: 40 bytes each."""

    def __init__(self, places: Sequence[Place], why_popular: str) -> None:
        self.why_popular = why_popular
        """Reason of the popular posts in it."""
        codes = ("q", "i", "q", "i", "i", "q")
        ordered = sorted(places, reverse=True)
        columns = zip(*ordered, strict=True) if ordered else ((),) * len(codes)
        self._columns = [
            array(code, column) for code, column in zip(codes, columns, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._columns[0])

    def place(self, number: int) -> Place:
        """Return a place by its number, 0 is the best."""
        return Place(*(column[number] for column in self._columns))

    def after(self, keyset: tuple[int, int, int]) -> int:
        """Return the number of the first place behind a score, account and key."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.place(middle)[:3] < keyset:
                high = middle
            else:
                low = middle + 1
        return low


class HeldRankings:
    """Rankings by key, for a short time. Use it from any thread."""

    def __init__(self, most: int = MAX_HELD, seconds: float = HELD_S) -> None:
        self._most = most
        self._seconds = seconds
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[float, Ranking]] = OrderedDict()

    def get(self, key: Hashable) -> Ranking | None:
        """Return a ranking, None if it is not held."""
        with self._lock:
            made_at, ranking = self._held.get(key, (0.0, None))
        if ranking is None or monotonic() - made_at > self._seconds:
            return None
        return ranking

    def put(self, key: Hashable, ranking: Ranking) -> None:
        """Hold a ranking; the oldest gives way."""
        with self._lock:
            self._held.pop(key, None)
            self._held[key] = (monotonic(), ranking)
            while len(self._held) > self._most:
                self._held.popitem(last=False)


def still_liked(conn: Conn, viewer: int, posts: Sequence[Address]) -> set[Address]:
    """Return the posts that an account likes."""
    rows = conn.execute(
        f"""
        SELECT x.a, x.k FROM unnest(%s::int4[], %s::int8[]) AS x (a, k)
        WHERE EXISTS (
            SELECT FROM {_LIKES} l WHERE l.target_rkey = x.k AND l.target_actor = x.a
              AND l.actor = %s AND l.path = %s AND l.target_collection = %s)
        """,
        (*_columns(posts), viewer, LIKE_SUBJECT, POST),
    )
    return {Address(actor, POST, rkey) for actor, rkey in rows}


def find_candidates(
    conn: Conn, viewer: int | None, posts: Sequence[Address], until: int, window_s: int
) -> dict[Address, int]:
    """Return posts with their times: no replies, not the viewer's, not liked.

    They are of the window before `until`. Times are microseconds since 1970.
    """
    rows = conn.execute(
        f"""
        SELECT x.a, x.k, {micros_sql("p.sort_at")}
        FROM unnest(%(actors)s::int4[], %(rkeys)s::int8[]) AS x (a, k)
        JOIN post p ON p.actor = x.a AND p.rkey = x.k
        WHERE p.parent_rkey IS NULL AND p.sort_at <= %(until)s AND p.sort_at > %(since)s
          AND NOT EXISTS (
            SELECT FROM {_LIKES} l WHERE l.target_rkey = x.k AND l.target_actor = x.a
              AND l.actor = %(viewer)s AND l.path = {LIKE_SUBJECT}
              AND l.target_collection = {POST})
        """,
        {
            **dict(zip(("actors", "rkeys"), _columns(posts), strict=True)),
            "until": from_micros(until),
            "since": from_micros(until - window_s * _MICROS),
            "viewer": viewer,
        },
    )
    found = {Address(a, POST, k): at for a, k, at in rows if a != viewer}
    hidden = find_opted_out(conn, {post.actor for post in found})
    return {post: at for post, at in found.items() if post.actor not in hidden}


def place_scored(
    graph: LikeGraph,
    scored: Sequence[Scored],
    times: dict[Address, int],
    until: int,
    p: Parameters,
) -> list[Place]:
    """Return the places of scored posts, those with a time only."""
    places = []
    for post in scored:
        address = graph.address_of(post.number)
        at = times.get(address)
        if at is None:
            continue
        via = graph.address_of(post.via)
        score = aged(post.weight, (until - at) / _MICROS, p)
        author, rkey = address.actor, address.rkey
        places.append(Place(score, author, rkey, post.paths, via.actor, via.rkey))
    return sorted(places, reverse=True)[: p.results]


def _columns(posts: Sequence[Address]) -> tuple[list[int], list[int]]:
    return [post.actor for post in posts], [post.rkey for post in posts]
