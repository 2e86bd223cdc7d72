"""Fair slots, and how slow hosts share them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from crawler.identities.fair_slots import FairSlots, Slot
from protocol.syntax.did import Did


def queue(slots: FairSlots, host: int, count: int) -> list[Did]:
    dids = [Did(f"did:web:a{n}.h{host}") for n in range(count)]
    for did in dids:
        slots.wait([host], did)
    return dids


def take_all(slots: FairSlots) -> list[Slot]:
    taken = []
    while (slot := slots.take()) is not None:
        taken.append(slot)
    return taken


def test_slots_hosts_take_turns_in_order() -> None:
    slots = FairSlots(6, 6)
    queue(slots, 1, 100)
    queue(slots, 2, 2)
    queue(slots, 3, 1)
    taken = take_all(slots)
    assert [slot.host for slot in taken] == [1, 2, 3, 1, 2, 1]
    assert [slot.did for slot in taken if slot.host == 1] == [
        f"did:web:a{n}.h1" for n in range(3)
    ]
    assert slots.waiting() == {1: 97}


def test_slots_per_host_are_bounded() -> None:
    slots = FairSlots(64, 2)
    for host in range(10):
        queue(slots, host, 50)
    taken = take_all(slots)
    assert Counter(slot.host for slot in taken) == dict.fromkeys(range(10), 2)
    slots.give_back(taken[0], slow=False)
    assert [slot.host for slot in take_all(slots)] == [taken[0].host]


def test_slow_hosts_share_half_of_the_slots() -> None:
    slots = FairSlots(8, 2)
    for host in range(4):
        queue(slots, host, 50)
    for slot in take_all(slots):
        slots.give_back(slot, slow=True)
    assert len(take_all(slots)) == 4
    queue(slots, 9, 2)
    assert [slot.host for slot in take_all(slots)] == [9, 9]


def test_host_that_answers_in_time_is_slow_no_longer() -> None:
    slots = FairSlots(2, 2)
    queue(slots, 1, 9)
    for slow, allowed in (True, 1), (False, 2):
        slot = slots.take()
        assert slot is not None
        slots.give_back(slot, slow=slow)
        taken = take_all(slots)
        assert len(taken) == allowed
        for slot in taken:
            slots.give_back(slot, slow=slow)


def test_one_slot_serves_all_hosts_that_wait_for_a_did() -> None:
    slots = FairSlots(8, 1)
    queue(slots, 1, 3)
    shared = Did("did:web:shared")
    slots.wait([1, 2], shared)
    assert [slot.did for slot in take_all(slots)] == ["did:web:a0.h1", shared]
    assert slots.waiting() == {1: 2}


@pytest.mark.parametrize("seed", range(5))
def test_every_did_gets_one_slot(seed: int) -> None:
    draw, slots = random.Random(seed), FairSlots(8, 2)
    wanted = {did for host in range(12) for did in queue(slots, host, 20)}
    served: Counter[Did] = Counter()
    held: list[Slot] = []
    while slots.waiting() or held:
        held += take_all(slots)
        assert len(held) <= 8
        slot = held.pop(draw.randrange(len(held)))
        served[slot.did] += 1
        slots.give_back(slot, slow=draw.random() < 0.5)
    assert served == dict.fromkeys(wanted, 1)
