"""Exponential backoff with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable


def full_jitter(
    tries: int,
    *,
    base: float = 1.0,
    cap: float = 300.0,
    draw: Callable[[], float] = random.random,
) -> float:
    """Return the seconds to wait before the next try, after `tries` failures.

    Drawn evenly below a ceiling that doubles from `base` to `cap`, but at least a tenth
    of the ceiling.
    """
    ceiling = min(cap, base * 2.0 ** min(max(tries - 1, 0), 32))
    return ceiling * max(0.1, draw())
