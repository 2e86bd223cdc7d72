"""Places for repos that are being fetched, with a clock in the hand."""

from __future__ import annotations

import pytest

from crawler.repos.fetch_slots import FetchSlots


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def places(clock: Clock) -> FetchSlots:
    return FetchSlots(8, 2, 20.0, clock=clock)


def take_all(places: FetchSlots, clock: Clock) -> None:
    """Eight that take long, and eight more."""
    for actor in range(8):
        places.take(actor, actor)
    clock.now += 21
    for actor in range(8, 16):
        places.take(actor, actor)


def test_free_slots_are_offered_in_groups(places: FetchSlots) -> None:
    assert places.free() == 8
    for actor in range(7):
        places.take(actor, actor)
    assert places.free() == 0, "one is not worth a query"
    assert places.leave(0)
    assert not places.leave(0)
    assert places.free() == 2


def test_host_is_busy_while_its_slots_are_taken(places: FetchSlots) -> None:
    for actor, host in enumerate((1, 2, 1)):
        places.take(actor, host)
    assert places.busy_hosts == [1]
    places.leave(0)
    assert places.busy_hosts == []


def test_slow_fetches_have_slots_of_their_own(places: FetchSlots, clock: Clock) -> None:
    for actor in range(8):
        places.take(actor, actor)
    assert places.free() == 0
    clock.now += 21
    assert places.free() == 8
    for actor in range(8, 16):
        places.take(actor, actor)
    assert places.free() == 0


def test_the_slowest_preempted_once_all_places_are_taken(
    places: FetchSlots, clock: Clock
) -> None:
    take_all(places, clock)
    for actor in range(8):
        # 100 bytes a second, and one slower.
        assert not places.note(actor, 2_100 if actor != 5 else 21)
    assert places.free() == 0
    assert [actor for actor in range(16) if places.note(actor, 0)] == [5]
    assert places.free() == 0
    assert [actor for actor in range(16) if places.note(actor, 0)] == [5], "one by one"


def test_large_repo_is_not_preempted(places: FetchSlots, clock: Clock) -> None:
    take_all(places, clock)
    for actor in range(8):
        places.note(actor, 10_000_000)
    assert places.free() == 0
    assert not any(places.note(actor, 0) for actor in range(16))
