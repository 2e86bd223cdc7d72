"""Ranked lists in pages that neither repeat nor lose an item while ranks change.

A cursor holds the items that were sent. The next page reads the ranking from its top
again and leaves them out. Lists longer than MAX_SEEN continue by the source's keysets.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from appview.paging import Entry, Fetch, Keyset

MAX_SEEN: Final = 150
"""Items in a cursor: of the largest ids they nearly fill it."""
_SEEN: Final = "seen"


def steady(fetch: Fetch[int]) -> Fetch[int]:
    """Return a `fetch` of ids whose keysets hold what came before."""

    def fetch_steady(after: Keyset | None, limit: int) -> Sequence[Entry[int]]:
        if after is not None and after[0] != _SEEN:
            return fetch(after, limit)
        seen = _unpack(after[1:]) if after else set()
        found = fetch(None, limit + len(seen))
        fresh = [entry for entry in found if entry.item not in seen][:limit]
        entries = []
        for entry in fresh:
            seen.add(entry.item)
            keyset = entry.keyset if len(seen) > MAX_SEEN else [_SEEN, *_pack(seen)]
            entries.append(Entry(entry.item, keyset))
        return entries

    return fetch_steady


def _pack(seen: set[int]) -> list[int]:
    """Return the differences of the sorted ids, which are short."""
    return [b - a for a, b in pairwise([0, *sorted(seen)])]


def _unpack(packed: Sequence[int]) -> set[int]:
    return {*accumulate(packed)}
