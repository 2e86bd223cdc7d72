"""Fair slots: round-robin over hosts, with a share of the slots for slow hosts."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from protocol.syntax.did import Did


class Slot(NamedTuple):
    """A slot in use: the host it counts for, and `slow` as the host was then."""

    host: int
    did: Did
    slow: bool


class FairSlots:
    """Up to `limit` slots, `per_host` of one host. DIDs wait in order per host, and the
    hosts take turns.

    Hosts whose last slot was held for too long have half of the slots together, so
    that others find one free.
    """

    def __init__(self, limit: int, per_host: int) -> None:
        self.free = limit
        self._free_to_slow = limit // 2
        self._per_host = per_host
        self._in_use: Counter[int] = Counter()
        self._slow: set[int] = set()
        self._lanes: OrderedDict[int, dict[Did, None]] = OrderedDict()

    def wait(self, hosts: Iterable[int], did: Did) -> None:
        """Have a DID wait for the next slot of any of these hosts."""
        for host in hosts:
            self._lanes.setdefault(host, {})[did] = None

    def waiting(self) -> dict[int, int]:
        """Return host -> DIDs that wait."""
        return {host: len(lane) for host, lane in self._lanes.items()}

    def take(self) -> Slot | None:
        """Take a slot for the next DID; None while no host may have one."""
        if not self.free:
            return None
        host = next((h for h in self._lanes if self._may_take(h)), None)
        if host is None:
            return None
        did = next(iter(self._lanes[host]))
        self._lanes.move_to_end(host)
        # One slot serves all hosts that wait for the DID.
        for name in [name for name, lane in self._lanes.items() if did in lane]:
            del self._lanes[name][did]
            if not self._lanes[name]:
                del self._lanes[name]
        slot = Slot(host, did, host in self._slow)
        self.free -= 1
        self._free_to_slow -= slot.slow
        self._in_use[host] += 1
        return slot

    def give_back(self, slot: Slot, *, slow: bool) -> None:
        """Free the slot; `slow` if it was held for too long."""
        self.free += 1
        self._free_to_slow += slot.slow
        self._in_use[slot.host] -= 1
        if not self._in_use[slot.host]:
            del self._in_use[slot.host]
        if slow:
            self._slow.add(slot.host)
        else:
            self._slow.discard(slot.host)

    def _may_take(self, host: int) -> bool:
        if self._in_use[host] >= self._per_host:
            return False
        return host not in self._slow or self._free_to_slow > 0
