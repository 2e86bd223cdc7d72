"""Whose turn it is: hosts one after the other, each with a share of the slots."""

from __future__ import annotations

from collections import Counter, OrderedDict

from protocol.syntax.did import Did


class Turns:
    """Slots of one kind, and who waits for one: by host, the one first whose turn it
    is, the accounts in the order in which they were asked for."""

    def __init__(self, limit: int, per_host: int) -> None:
        self.free = limit
        self._per_host = per_host
        self._in_use: Counter[int] = Counter()
        self._lanes: OrderedDict[int, dict[Did, None]] = OrderedDict()

    def wait(self, host: int, did: Did) -> None:
        self._lanes.setdefault(host, {})[did] = None

    def waiting(self) -> dict[int, int]:
        """Host -> how many wait."""
        return {host: len(lane) for host, lane in self._lanes.items()}

    def take(self) -> tuple[int, Did] | None:
        """The next to be looked up and for whom; None while nobody may have a slot."""
        if not self.free:
            return None
        host = next((h for h in self._lanes if self._in_use[h] < self._per_host), None)
        if host is None:
            return None
        did = next(iter(self._lanes[host]))
        self._lanes.move_to_end(host)
        # One look-up serves all who wait for the account.
        for name in [name for name, lane in self._lanes.items() if did in lane]:
            del self._lanes[name][did]
            if not self._lanes[name]:
                del self._lanes[name]
        self.free -= 1
        self._in_use[host] += 1
        return host, did

    def give_back(self, host: int) -> None:
        self.free += 1
        self._in_use[host] -= 1
        if not self._in_use[host]:
            del self._in_use[host]
