"""How far each stream may be called done.

Frames of one stream may wait for an identity look-up while later frames go on.
The saved cursor may only cover the finished prefix: it stays below the lowest
sequence number that still waits.
"""

from __future__ import annotations

from collections import defaultdict


class HighWater:
    """Per host: the last frame handled, and the frames that still wait."""

    __slots__ = ("_handled", "_waiting")

    def __init__(self) -> None:
        self._handled: dict[int, int] = {}
        self._waiting: defaultdict[int, set[int]] = defaultdict(set)

    def handle(self, host: int, seq: int) -> None:
        """Note that every frame up to `seq` was handled or waits."""
        if seq > self._handled.get(host, 0):
            self._handled[host] = seq

    def wait(self, host: int, seq: int) -> None:
        """Note that the frame `seq` waits: the cursor stays below it."""
        self._waiting[host].add(seq)

    def release(self, host: int, seq: int) -> None:
        """Note that the frame `seq` no longer waits."""
        waiting = self._waiting.get(host)
        if waiting is not None:
            waiting.discard(seq)
            if not waiting:
                del self._waiting[host]

    def mark(self, host: int) -> int:
        """Return the highest cursor that covers only finished frames, 0 if none."""
        handled = self._handled.get(host, 0)
        waiting = self._waiting.get(host)
        return min(handled, min(waiting) - 1) if waiting else handled

    def forget(self, host: int) -> None:
        """Drop what is known of a host whose numbering began anew."""
        self._handled.pop(host, None)
        self._waiting.pop(host, None)
