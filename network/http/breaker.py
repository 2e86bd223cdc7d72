"""A circuit breaker: a service that keeps failing is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """Opens after `threshold` failures in a row, for `pause` seconds.

    Then one call may try: its success closes the breaker, its failure opens it again.
    """

    def __init__(
        self, threshold: int, pause: float, clock: Callable[[], float]
    ) -> None:
        self._threshold = threshold
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._closed_until_probe = 0.0

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def may_call(self) -> bool:
        """True if a call may be made now; the caller then reports how it went."""
        if self._failures < self._threshold:
            return True
        if self._clock() < self._closed_until_probe:
            return False
        self._closed_until_probe = self._clock() + self._pause
        return True

    def succeeded(self) -> None:
        """The service works."""
        self._failures = 0

    def failed(self) -> None:
        """The service did not answer."""
        self._failures += 1
        if self._failures >= self._threshold:
            self._closed_until_probe = self._clock() + self._pause
