"""A circuit breaker: no calls for a while to a service that keeps failing."""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """A breaker that opens for `pause` seconds after `threshold` failures in a row.

    Then one call may try: success closes the breaker, failure opens it again.
    """

    def __init__(
        self, threshold: int, pause: float, clock: Callable[[], float]
    ) -> None:
        self._threshold = threshold
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._closed_until_probe = 0.0

    def may_call(self) -> bool:
        """Return True if a call may be made now; report its outcome after it."""
        if self._failures < self._threshold:
            return True
        if self._clock() < self._closed_until_probe:
            return False
        self._closed_until_probe = self._clock() + self._pause
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= self._threshold:
            self._closed_until_probe = self._clock() + self._pause
