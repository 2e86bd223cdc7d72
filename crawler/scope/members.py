"""The scope as one thread sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from storage.postgres.pool import Conn
from storage.repos.scope_rows import (
    SETTLE_S,
    Scope,
    ScopeKind,
    load_changes,
    load_scope,
)

REFRESH: Final = 1.0
"""Seconds until all processes see a change."""

_MOST_FOUND: Final = 10_000


class ScopeView:
    """The scope in memory; it includes all accounts until the first `refresh`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.scope = Scope()
        self._clock = clock
        self._due = float("-inf")
        self._settled_at = float("-inf")
        self._accounts: set[str] = set()
        self._last = 0
        self._prefixes: tuple[str, ...] = ()
        self._found: dict[str, None] = {}

    @property
    def due(self) -> bool:
        """Return True if it is time to refresh."""
        return self._clock() >= self._due

    def refresh(self, conn: Conn) -> frozenset[str] | None:
        """Read what changed; return the accounts that left, None for any."""
        self._due = self._clock() + REFRESH
        scope = load_scope(conn)
        narrowed = scope.generation != self.scope.generation
        if narrowed:
            self._settled_at = self._clock() + SETTLE_S - scope.age_s
            self._accounts, self._last = set(), 0
            self._found = {}
        left: set[str] = set()
        if not scope.whole:
            changes, self._last = load_changes(conn, self._last)
            for did, joins in changes:
                if joins:
                    self._accounts.add(did)
                    self._found.pop(did, None)
                else:
                    self._accounts.discard(did)
                    left.add(did)
        self._prefixes = tuple(f"{nsid}/" for nsid in scope.collections)
        self.scope = scope
        return None if narrowed else frozenset(left)

    @property
    def settles_in(self) -> float:
        """Return the seconds until all processes know the same scope: fetches of new
        accounts must wait for that."""
        if not self.scope.whole:
            return SETTLE_S
        return max(0.0, self._settled_at - self._clock())

    def includes(self, did: str) -> bool:
        """Return True if the account belongs to the scope."""
        return self.scope.whole or did in self._accounts or did in self._found

    def find(self, did: str, paths: Sequence[Any]) -> bool:
        """Return True if an account that writes at these paths joins the scope;
        remember it until it has joined."""
        if self.scope.kind is not ScopeKind.COLLECTION or not any(
            type(path) is str and path.startswith(self._prefixes) for path in paths
        ):
            return False
        if len(self._found) >= _MOST_FOUND:
            del self._found[next(iter(self._found))]
        self._found[did] = None
        return True

    def is_found(self, did: str) -> bool:
        """Return True if `find` found the account and it has not joined yet."""
        return did in self._found

    @property
    def found(self) -> list[str]:
        """Return the accounts that `find` found and that have not joined yet."""
        return list(self._found)
