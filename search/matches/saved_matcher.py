"""The saved searches in memory, and the log of what they find."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from search.matches.match_log import append_matches
from search.matches.match_pass import DrainedRecords, Found, QueryList
from search.matches.matcher import Matcher
from search.query.nodes import Query
from search.query.operators import InvalidQueryError, ResolveHandle
from search.query.parser import parse_query
from storage.postgres.pool import Conn
from storage.private.private_store import PrivateStore
from storage.private.saved_searches import (
    SavedSearch,
    load_changes,
    pause_searches,
)
from storage.records.addresses import Address

log = logging.getLogger(__name__)

MAX_MATCHES_PER_HOUR: Final = 20_000
"""Matches after which a search is paused: it would fill the log for all others."""
_HOUR: Final = timedelta(hours=1)
_LOADED_AT_ONCE: Final = 1_000


class SavedMatcher:
    """Saved searches, kept up to date with the private database.

    A search that was saved before a record was applied finds it: changes are read for
    each batch. For one thread at a time, as the drain is.
    """

    only_new = True

    def __init__(self, private: PrivateStore, queries: QueryList | None = None) -> None:
        self._private = private
        self._matcher = Matcher()
        self._queries = queries or self._matcher
        self._numbers: set[int] = set()
        self._seen = 0
        self._found: dict[int, int] = {}
        self._hour_begun = datetime.min.replace(tzinfo=UTC)

    def __len__(self) -> int:
        return len(self._numbers)

    def log_matches(self, conn: Conn, drained: DrainedRecords) -> None:
        """Log the searches that find new records, alone. Does not commit."""
        self.refresh()
        found = [
            (search, document)
            for document in drained.new
            for search in self._matcher.match(document)
        ]
        self.take(conn, drained, found)

    def take(self, conn: Conn, drained: DrainedRecords, found: Found) -> None:
        """Log pairs of a search and a record. Does not commit."""
        pairs = [(search, document.address) for search, document in found]
        now = datetime.now(UTC)
        append_matches(conn, pairs, now)
        self._limit(pairs, now)

    def refresh(self) -> None:
        """Read the changes since the last time."""
        while True:
            with self._private.read() as conn:
                self._seen, changed = load_changes(conn, self._seen, _LOADED_AT_ONCE)
            for search in changed:
                self._apply(search)
            if len(changed) < _LOADED_AT_ONCE:
                return

    def _apply(self, search: SavedSearch) -> None:
        self._queries.remove(search.id)
        self._numbers.discard(search.id)
        self._found.pop(search.id, None)
        if not search.is_active:
            return
        try:
            query = read_saved(search)
        except InvalidQueryError as error:
            # It was valid when it was saved.
            log.warning("saved search %d is not read: %s", search.id, error)
            return
        self._queries.put(search.id, query, search.collections)
        self._numbers.add(search.id)

    def _limit(self, found: Sequence[tuple[int, Address]], now: datetime) -> None:
        """Pause searches that find too much in an hour."""
        if now - self._hour_begun > _HOUR:
            self._hour_begun = now
            self._found.clear()
        for search, _ in found:
            self._found[search] = self._found.get(search, 0) + 1
        broad = {s for s, n in self._found.items() if n > MAX_MATCHES_PER_HOUR}
        if broad:
            with self._private.write() as conn:
                pause_searches(conn, broad, now)


def read_saved(search: SavedSearch) -> Query:
    """Return the query of a saved search. Raises InvalidQueryError."""
    assert search.query is not None
    return parse_saved(search.query, search.owner, search.accounts.get)


def parse_saved(text: str, owner: str, resolve_handle: ResolveHandle) -> Query:
    """Return a query that can be saved. Raises InvalidQueryError."""
    query = parse_query(text, resolve_handle=resolve_handle, viewer=owner)
    if query.within:
        raise InvalidQueryError("in: cannot be saved")
    if query.min_likes:
        raise InvalidQueryError("min_likes: cannot be saved; new posts have no likes")
    if query.is_empty:
        raise InvalidQueryError("the query holds no word")
    return query
