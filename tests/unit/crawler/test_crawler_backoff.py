from __future__ import annotations

import random

from crawler.backoff import full_jitter


def test_jitter_grows_to_the_cap_and_never_spins() -> None:
    highest = [full_jitter(n, draw=lambda: 1.0) for n in range(1, 60)]
    assert highest[:4] == [1.0, 2.0, 4.0, 8.0]
    assert highest[-1] == 300.0
    assert all(full_jitter(n, draw=lambda: 0.0) >= 0.1 for n in range(1, 60))


def test_five_hundred_dead_hosts_stay_under_ten_dials_a_second() -> None:
    draw = random.Random(1).random
    dials = [0] * 3_600
    for _ in range(500):
        at, tries = draw(), 0
        while at < 3_600:
            dials[int(at)] += 1
            tries += 1
            at += full_jitter(tries, draw=draw)
    # The first seconds hold every host's first tries; then the load is flat.
    assert max(dials[600:]) <= 10
