"""The policy of time slices: one place for every time, few slices, little copying."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.slices import (
    Slice,
    Slices,
    begin,
    from_json,
    is_full,
    mark_merging,
    merged,
    next_merge,
    targets,
    to_json,
    walk,
)

HOT = 10


def grown(steps: list[int]) -> tuple[Slices, int, int]:
    """Return slices after batches of new records, all records, and copied ones."""
    slices: Slices = (Slice(1),)
    number, now, copied = 1, 0, 0
    for count in steps:
        for _ in range(count):
            now += 1
            slices = _counted(slices, now)
        if is_full(slices, HOT):
            number += 1
            slices = begin(slices, now + 1, number)
        while (at := next_merge(slices)) is not None:
            slices = mark_merging(slices, at, (now, "x"))
            assert next_merge(slices) == at
            copied += slices[at].records
            slices = merged(slices, at)
    return slices, now, copied


def _counted(slices: Slices, ts: int) -> Slices:
    place = targets(slices, ts)[0].number
    return tuple(
        Slice(s.number, s.since, s.until, s.records + (s.number == place))
        for s in slices
    )


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(-5, 3_000))
def test_every_time_has_one_slice(steps: list[int], ts: int) -> None:
    slices, total, _ = grown(steps)
    assert sum(one.holds(ts) for one in slices) == 1
    assert slices[0].until is None
    assert slices[-1].since is None
    for newer, older in pairwise(slices):
        assert newer.since == older.until
    assert sum(one.records for one in slices) == total
    assert len({one.number for one in slices}) == len(slices)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80))
def test_slices_grow_geometrically(steps: list[int]) -> None:
    slices, total, copied = grown(steps)
    for newer, older in pairwise(slices[1:]):
        assert newer.records * 4 < older.records
    assert len(slices) <= 3 + max(0, total // HOT).bit_length() // 2
    assert copied <= total * (2 + 2 * max(1, total // HOT).bit_length())


@given(
    st.lists(st.integers(0, 40), max_size=60),
    st.one_of(st.none(), st.integers(0, 2_000)),
    st.one_of(st.none(), st.integers(0, 2_000)),
)
def test_a_walk_meets_every_time_of_a_range(
    steps: list[int], since: int | None, until: int | None
) -> None:
    slices, _, _ = grown(steps)
    groups = list(walk(slices, since, until))
    seen = [one for group in groups for one in group]
    assert seen == [one for one in slices if one in seen]
    for ts in range(since or 0, until if until is not None else 2_000, 97):
        assert any(one.holds(ts) for one in seen)
    assert [len(group) for group in groups[:-1]] == [
        2**i for i in range(len(groups) - 1)
    ]


def test_a_record_of_a_merging_slice_is_written_to_both() -> None:
    slices = (Slice(3, 20), Slice(2, 10, 20), Slice(1, None, 10))
    slices = mark_merging(slices, 1, None)
    assert [one.number for one in targets(slices, 15)] == [2, 1]
    assert [one.number for one in targets(slices, 25)] == [3]
    assert [one.number for one in targets(slices, 5)] == [1]


def test_a_new_slice_begins_inside_of_the_newest() -> None:
    slices = begin((Slice(1),), 10, 2)
    with pytest.raises(ValueError, match="cannot end"):
        begin(slices, 5, 3)


def test_slices_round_trip_as_json() -> None:
    slices = mark_merging((Slice(2, 5), Slice(1, None, 5, 7)), 0, (6, "id"))
    assert from_json(to_json(slices)) == slices
