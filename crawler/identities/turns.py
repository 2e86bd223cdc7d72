"""Whose turn it is: hosts one after the other, each with a share of the slots."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import NamedTuple

from protocol.syntax.did import Did


class Turn(NamedTuple):
    """A slot that is held: on whose account, for whom, and `late` as its host was."""

    host: int
    did: Did
    late: bool


class Turns:
    """Slots of one kind, and who waits for one: by host, the one first whose turn it
    is, the accounts in the order in which they were asked for.

    Hosts whose last look-up was late have half of the slots together, so that others
    find one free whatever those wait for.
    """

    def __init__(self, limit: int, per_host: int) -> None:
        self.free = limit
        self._free_to_late = limit // 2
        self._per_host = per_host
        self._in_use: Counter[int] = Counter()
        self._late: set[int] = set()
        self._lanes: OrderedDict[int, dict[Did, None]] = OrderedDict()

    def wait(self, host: int, did: Did, *, first: bool = False) -> None:
        """Wait for a slot on the account of `host`, `first` of those of this host."""
        lane = self._lanes.setdefault(host, {})
        if first:
            lane = self._lanes[host] = {did: None, **lane}
        lane[did] = None

    def waiting(self) -> dict[int, int]:
        """Host -> how many wait."""
        return {host: len(lane) for host, lane in self._lanes.items()}

    def take(self) -> Turn | None:
        """The next to be looked up and for whom; None while nobody may have a slot."""
        if not self.free:
            return None
        host = next((h for h in self._lanes if self._may_take(h)), None)
        if host is None:
            return None
        did = next(iter(self._lanes[host]))
        self._lanes.move_to_end(host)
        # One look-up serves all who wait for the account.
        for name in [name for name, lane in self._lanes.items() if did in lane]:
            del self._lanes[name][did]
            if not self._lanes[name]:
                del self._lanes[name]
        turn = Turn(host, did, host in self._late)
        self.free -= 1
        self._free_to_late -= turn.late
        self._in_use[host] += 1
        return turn

    def give_back(self, turn: Turn, *, late: bool) -> None:
        """Give the slot back; `late` when it was held for too long."""
        self.free += 1
        self._free_to_late += turn.late
        self._in_use[turn.host] -= 1
        if not self._in_use[turn.host]:
            del self._in_use[turn.host]
        if late:
            self._late.add(turn.host)
        else:
            self._late.discard(turn.host)

    def _may_take(self, host: int) -> bool:
        if self._in_use[host] >= self._per_host:
            return False
        return host not in self._late or self._free_to_late > 0
