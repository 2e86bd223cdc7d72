"""What the operator wants indexed, kept in memory and followed from Postgres."""

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
"""A change is seen by everybody after so many seconds."""

_MOST_FOUND: Final = 10_000


class ScopeView:
    """The scope as one thread sees it. `refresh` it now and then; until the first time
    the whole network belongs to it."""

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
        """Whether it is time to look again."""
        return self._clock() >= self._due

    def refresh(self, conn: Conn) -> frozenset[str] | None:
        """Read what changed; return who left, None where anybody may have."""
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
        """Seconds that the fetching of new accounts must wait, for all to know what
        this one knows. Where accounts join one by one, each may have just joined."""
        if not self.scope.whole:
            return SETTLE_S
        return max(0.0, self._settled_at - self._clock())

    def includes(self, did: str) -> bool:
        """Whether this account is wanted."""
        return self.scope.whole or did in self._accounts or did in self._found

    def find(self, did: str, paths: Sequence[Any]) -> bool:
        """Whether an account that writes at these paths is wanted from now on; if so
        it is remembered until it has joined."""
        if self.scope.kind is not ScopeKind.COLLECTION or not any(
            type(path) is str and path.startswith(self._prefixes) for path in paths
        ):
            return False
        if len(self._found) >= _MOST_FOUND:
            del self._found[next(iter(self._found))]
        self._found[did] = None
        return True

    def is_found(self, did: str) -> bool:
        """Whether `find` found it and it has not joined yet."""
        return did in self._found

    @property
    def found(self) -> list[str]:
        """The accounts that `find` found and that have not joined yet."""
        return list(self._found)
