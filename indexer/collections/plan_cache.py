"""Plans of lexicons, read from the index when their records are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from threading import Lock
from time import monotonic
from typing import Any, Final

from indexer.collections.field_plan import Plan, plan_from_json
from storage.lexicons import fetch_plans
from storage.postgres.pool import Conn

MAX_PLANS: Final = 512
MAX_AGE_S: Final = 10.0
"""Seconds after which a new lexicon is seen."""


class PlanCache:
    """The plans used last; thread-safe. An unknown lexicon has none."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, tuple[float, Any, Plan | None]] = OrderedDict()
        self._lock = Lock()

    def get(self, nsid: str) -> Plan | None:
        """Return the plan of a collection, if it was loaded."""
        held = self._plans.get(nsid)
        return None if held is None else held[2]

    def load(self, conn: Conn, nsids: Collection[str]) -> None:
        """Load the plans of these collections that are absent or too old."""
        now = monotonic()
        with self._lock:
            wanted = [
                nsid
                for nsid in nsids
                if nsid not in self._plans or self._plans[nsid][0] < now - MAX_AGE_S
            ][:MAX_PLANS]
        if not wanted:
            return
        found = fetch_plans(conn, wanted)
        with self._lock:
            for nsid in wanted:
                raw = found.get(nsid)
                held = self._plans.get(nsid)
                if held is not None and held[1] == raw:
                    plan = held[2]
                else:
                    plan = None if raw is None else plan_from_json(raw)
                self._plans[nsid] = now, raw, plan
                self._plans.move_to_end(nsid)
            while len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._plans.clear()
