from __future__ import annotations

import random

from crawler.live.high_water import HighWater


def test_the_mark_stays_below_the_lowest_waiting_frame() -> None:
    water = HighWater()
    assert water.mark(1) == 0
    for seq in (1, 2, 5):
        water.handle(1, seq)
    assert water.mark(1) == 5
    water.wait(1, 4)
    water.wait(1, 5)
    water.handle(1, 9)
    assert water.mark(1) == 3
    water.release(1, 4)
    assert water.mark(1) == 4
    water.release(1, 5)
    assert water.mark(1) == 9
    assert water.mark(2) == 0
    water.forget(1)
    assert water.mark(1) == 0


def test_the_mark_never_covers_an_unfinished_frame() -> None:
    draw = random.Random(7)
    water, waiting = HighWater(), set()
    for seq in range(1, 2_000):
        if draw.random() < 0.2:
            water.wait(0, seq)
            waiting.add(seq)
        water.handle(0, seq)
        if waiting and draw.random() < 0.19:
            done = draw.choice(sorted(waiting))
            waiting.discard(done)
            water.release(0, done)
        assert water.mark(0) == (min(waiting) - 1 if waiting else seq)
