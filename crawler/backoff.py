"""When to try again: exponential backoff with full jitter.

Pure: the random number is passed in, so a month of retries runs in a test in a
millisecond.
"""

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

    The ceiling doubles from `base` to `cap`; the wait is drawn evenly from the
    upper half of it and below by full jitter, but is never under a tenth of the
    ceiling: a thousand clients must not meet again, and none may spin.
    """
    ceiling = min(cap, base * 2.0 ** min(max(tries - 1, 0), 32))
    return ceiling * max(0.1, draw())
