"""Pages of a ranking that changes between them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appview.paging import Entry, Keyset
from appview.steady import MAX_SEEN, steady
from network.xrpc.cursor import open_cursor, seal_cursor

SECRET = b"secret"


class Ranking:
    """Ids by scores that a test changes."""

    def __init__(self, ids: list[int]) -> None:
        self.scores = dict.fromkeys(ids, 0)

    def fetch(self, after: Keyset | None, limit: int) -> list[Entry[int]]:
        keysets = sorted(([-score, item] for item, score in self.scores.items()))
        rest = [k for k in keysets if after is None or k > after]
        return [Entry(k[1], k) for k in rest[:limit]]


def read_pages(ranking: Ranking, limit: int, rng: random.Random) -> list[int]:
    """Read to the end through sealed cursors; change scores between the pages."""
    found: list[int] = []
    after: Keyset | None = None
    while True:
        entries = steady(ranking.fetch)(after, limit)
        found += [entry.item for entry in entries]
        if len(entries) < limit:
            return found
        after = open_cursor(SECRET, seal_cursor(SECRET, entries[-1].keyset))
        for item in rng.sample([*ranking.scores], min(5, len(ranking.scores))):
            ranking.scores[item] += rng.randrange(-3, 4)


@given(
    ids=st.sets(st.integers(1, 2**31 - 1), max_size=40),
    limit=st.integers(1, 12),
    seed=st.integers(0, 1_000),
)
def test_changing_ranks_neither_repeat_nor_lose_an_item(
    ids: set[int], limit: int, seed: int
) -> None:
    found = read_pages(Ranking([*ids]), limit, random.Random(seed))
    assert sorted(found) == sorted(ids)


@pytest.mark.parametrize("step", [1, 2**31 // 400])
def test_long_lists_end_and_their_cursors_stay_short(step: int) -> None:
    ids = [n * step + 1 for n in range(2 * MAX_SEEN + 7)]
    ranking = Ranking(ids)
    found: list[int] = []
    after: Keyset | None = None
    while True:
        entries = steady(ranking.fetch)(after, 10)
        found += [entry.item for entry in entries]
        if len(entries) < 10:
            break
        after = open_cursor(SECRET, seal_cursor(SECRET, entries[-1].keyset))
    assert found == sorted(ids)
