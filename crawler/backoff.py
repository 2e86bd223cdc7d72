"""When to try again: full jitter, Retry-After, and token buckets.

Pure: the time and the random number are passed in, so a month of retries runs
in a test in a millisecond.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

RETRY_AFTER_CAP_S = 3_600.0


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


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header (seconds or an HTTP date) as seconds from `now`.

    Nonsense gives None; a negative value is 0; a huge one is capped at an hour.
    """
    if value is None:
        return None
    text = value.strip()
    if not text or len(text) > 64 or not text.isascii():
        return None
    try:
        seconds = float(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    if seconds != seconds:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)


@dataclass(slots=True)
class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up."""

    rate: float
    burst: float
    level: float = -1.0
    at: float = 0.0

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take `count` tokens if they are there."""
        self._fill(now)
        if self.level < count:
            return False
        self.level -= count
        return True

    def wait(self, now: float, count: float = 1.0) -> float:
        """Return the seconds until `count` tokens will be there."""
        self._fill(now)
        return max(0.0, (count - self.level) / self.rate)

    def _fill(self, now: float) -> None:
        if self.level < 0.0:
            self.level = self.burst
        elif now > self.at:
            self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = max(self.at, now)
