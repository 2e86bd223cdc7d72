"""Recent likes in memory: posts by account, and accounts by post, in order of time.

Posts have numbers of this graph, which keep a like at 16 bytes. Times are seconds since
the graph's `since`.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage.collections import COLLECTION_IDS, FEED_POST
from storage.records.addresses import Address

POST: Final = COLLECTION_IDS[FEED_POST]
LIKERS_KEPT: Final = 1_000
"""Newest likers of a post that are kept, at least half of them at any time."""
_ID_BITS: Final = 32
_ID_MASK: Final = (1 << _ID_BITS) - 1
_TID_CLOCK_BITS: Final = 10
_MICROS: Final = 1_000_000
_LAST: Final = 2**31 - 1
_LEAST: Final = 1_024


class LikeGraph:
    """Likes of posts since a time, in seconds since 1970.

    One thread adds likes while others read.
    """

    def __init__(self, since: int = 0) -> None:
        self.since = since
        self.size = 0
        self.posted_at: NDArray[np.int32] = np.zeros(_LEAST, np.int32)
        """By post: the earlier of its record key's time and its first known like."""
        self._numbers: dict[int, int] = {}
        self._authors = array("i")
        self._rkeys = array("q")
        self._likers: list[array[int]] = []
        self._posts: dict[int, tuple[array[int], array[int]]] = {}
        self._staged: dict[int, array[int]] = {}

    def put_post(self, author: int, rkey: int, likers: bytes) -> None:
        """Add the next post with its likes, packed and in order: time, account.

        Each is an int8 in network byte order, with the time in the high half. `finish`
        makes them visible.
        """
        found = _unpack("q", likers)
        number = self._new_post(author, rkey, found[0] >> _ID_BITS)
        self._likers[number] = found[-LIKERS_KEPT:]
        self.size += len(found)
        staged = self._staged
        for entry in found:
            actor = entry & _ID_MASK
            if actor in staged:
                staged[actor].append(entry - actor + number)
            else:
                staged[actor] = array("q", (entry - actor + number,))

    def finish(self) -> None:
        """Put the likes of each account in order of time."""
        staged = self._staged
        while staged:
            actor, entries = staged.popitem()
            ordered = sorted(entries)
            self._posts[actor] = (
                array("i", [entry & _ID_MASK for entry in ordered]),
                array("i", [entry >> _ID_BITS for entry in ordered]),
            )

    def add(self, actor: int, author: int, rkey: int, at: int) -> bool:
        """Add a like at seconds since 1970; return False if it is known."""
        at = min(at - self.since, _LAST)
        number = self._number(author, rkey, at)
        posts, times = self._posts_of(actor)
        if number in posts:
            return False
        place = bisect_right(times, at)
        posts.insert(place, number)
        times.insert(place, at)
        likers = self._likers[number]
        insort(likers, at << _ID_BITS | actor)
        if len(likers) > LIKERS_KEPT:
            del likers[: LIKERS_KEPT // 2]
        self.size += 1
        return True

    def _number(self, author: int, rkey: int, at: int) -> int:
        number = self._numbers.get(rkey << _ID_BITS | author)
        if number is None:
            number = self._new_post(author, rkey, at)
        elif at < self.posted_at[number]:
            self.posted_at[number] = at
        return number

    def _new_post(self, author: int, rkey: int, at: int) -> int:
        number = len(self._authors)
        claimed = at
        if rkey > 0:
            claimed = (rkey >> _TID_CLOCK_BITS) // _MICROS - self.since
        self._authors.append(author)
        self._rkeys.append(rkey)
        self._likers.append(array("q"))
        if number == len(self.posted_at):
            # A new array: other threads read the old one.
            self.posted_at = np.concatenate([self.posted_at, self.posted_at])
        self.posted_at[number] = max(-_LAST, min(claimed, at))
        # Last: another thread finds complete posts only.
        self._numbers[rkey << _ID_BITS | author] = number
        return number

    def _posts_of(self, actor: int) -> tuple[array[int], array[int]]:
        known = self._posts.get(actor)
        if known is None:
            known = self._posts[actor] = (array("i"), array("i"))
        return known

    def number_of(self, post: Address) -> int | None:
        """Return the number of a post, None if no like of it is known."""
        return self._numbers.get(post.rkey << _ID_BITS | post.actor)

    def address_of(self, number: int) -> Address:
        """Return the address of a post."""
        return Address(self._authors[number], POST, self._rkeys[number])

    def author_of(self, number: int) -> int:
        """Return the account of a post."""
        return self._authors[number]

    def likes_of(
        self, actor: int, until: int, most: int, after: int = -1
    ) -> tuple[array[int], int]:
        """Return posts that an account likes, oldest like first, and a count.

        The count is that of its newest likes until a time, at most `most`; of these,
        the posts liked after the time `after` are returned.
        """
        return next(self.likes_of_each((actor,), until, most, after))

    def likes_of_each(
        self, actors: Iterable[int], until: int, most: int, after: int = -1
    ) -> Iterator[tuple[array[int], int]]:
        """Yield for each account what `likes_of` returns."""
        known, nothing = self._posts.get, (array("i"), array("i"))
        for actor in actors:
            posts, times = known(actor, nothing)
            end = len(times)
            if end and times[-1] > until:
                end = bisect_right(times, until)
            first = end - most if end > most else 0
            start = first if after < 0 else bisect_right(times, after, first, end)
            yield posts[start:end], end - first

    def likers_of(self, number: int, until: int, most: int) -> array[int]:
        """Return the newest likes of a post until a time; see `actors_of`."""
        likers = self._likers[number]
        end = bisect_left(likers, (until + 1) << _ID_BITS)
        return likers[max(0, end - most) : end]


def actors_of(likes: Iterable[array[int]]) -> NDArray[np.int64]:
    """Return the accounts of likes, in order."""
    return np.frombuffer(b"".join(likes), np.int64) & _ID_MASK


def _unpack(code: str, packed: bytes) -> array[int]:
    found = array(code)
    found.frombytes(packed)
    if sys.byteorder == "little":
        found.byteswap()
    return found
