"""The common part of engines outside Postgres: state, generations, rebuilds, failures.

A generation is a whole copy of the index. Searches ask the live one; changes are
written to every generation, so that a new one can be filled while the old one serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from search.documents import ActorDocument, Document, RecordDocument
from search.engines.account_query import AccountQuery, read_account_query
from search.engines.contract import (
    ActorHit,
    EngineStats,
    EngineUnavailableError,
    RecordPage,
    SearchEngine,
    ServerError,
)
from search.engines.encoding import document_id, encode_actor, encode_record
from search.engines.external_server import Contents, IndexMissingError, Server
from search.engines.external_state import (
    FIRST,
    ExternalState,
    Generation,
    Rebuild,
    load_state,
    save_failure,
    save_state,
)
from search.query.nodes import Query
from search.slices import Slice
from storage.postgres.instants import from_micros
from storage.postgres.pool import Pool
from storage.records.addresses import Address

_FRESH_S: Final = 1.0
"""Seconds after which a reader looks at the state again."""
Fields = dict[str, Any]
T = TypeVar("T")


class ExternalEngine(SearchEngine):
    """An engine outside Postgres; a subclass speaks with its server.

    All writes come from the holder of the drain's lock.
    """

    name: str
    external: bool = True
    missing: str
    """The server's code of the error that an index does not exist."""

    def __init__(self, pool: Pool, server: Server, prefix: str) -> None:
        self.pool = pool
        self.prefix = prefix
        self._server = server
        self._version = ""
        self._cached: tuple[float, ExternalState | None, str] = (0.0, None, "")
        self._failing = False

    # --- what a subclass does ---

    def prepare(self, generation: Generation) -> None:
        """Make the indexes of a generation, with their settings, if they lack."""
        raise NotImplementedError

    def discard(self, keep: Sequence[Generation]) -> None:
        """Delete all indexes but those of these generations."""
        raise NotImplementedError

    def write(
        self,
        generation: Generation,
        records: Sequence[Fields],
        actors: Sequence[Fields],
    ) -> Generation:
        """Write documents and wait; return the generation with its new numbers."""
        raise NotImplementedError

    def remove(
        self, generation: Generation, ids: Sequence[str], actors: Sequence[int]
    ) -> None:
        """Remove documents and wait."""
        raise NotImplementedError

    def tend(self, generation: Generation) -> Generation | None:
        """Do one bounded step of upkeep; None if there is nothing to do."""
        return None

    def find_records(
        self,
        generation: Generation,
        query: Query,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None,
    ) -> RecordPage:
        """Return a page of records, newest or most liked first.

        Without any match, near matches follow; the first value of a keyset is then 1.
        """
        raise NotImplementedError

    def find_actors(
        self, generation: Generation, query: AccountQuery
    ) -> list[ActorHit]:
        """Return a page of accounts."""
        raise NotImplementedError

    def measure(self, generation: Generation) -> Contents:
        """Return the contents of a generation. Raises ServerError."""
        raise NotImplementedError

    # --- the interface of search.engines.contract ---

    def close(self) -> None:
        """Close the connections to the server."""
        self._server.close()

    def search_records(
        self,
        query: Query,
        *,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None = None,
    ) -> RecordPage:
        """Return matching records, or near matches if there are none."""
        if not collections or limit < 1:
            return RecordPage([], 0 if after is None else None)
        return self.reading(
            lambda live: self.find_records(live, query, collections, limit, after)
        )

    def search_actors(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts by handle, name or description."""
        query = read_account_query("words", text, limit, after, follows)
        return self._find_actors(query)

    def typeahead(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts whose handle or name begins like `text`."""
        query = read_account_query("names", text, limit, after, follows)
        return self._find_actors(query)

    def _find_actors(self, query: AccountQuery | None) -> list[ActorHit]:
        if query is None:
            return []
        return self.reading(lambda live: self.find_actors(live, query))

    def stats(self) -> EngineStats:
        """Return counts, health and a rebuild for the status page."""
        state, failure = self.state()
        if state is None:
            return EngineStats(self.name, 0, 0, None, False, "not built yet", failure)
        found, healthy = Contents(0, 0, None), True
        try:
            self.check_version()
            found = self.measure(state.live)
        except ServerError as error:
            healthy, failure = False, failure or str(error)
        details = [self._version, found.detail]
        if state.rebuild is not None:
            rebuild = state.rebuild
            details.append(f"rebuild: {rebuild.done:,} of {rebuild.total:,} accounts")
        return EngineStats(
            self.name,
            found.records,
            found.actors,
            None if found.newest is None else from_micros(found.newest),
            healthy,
            ", ".join(filter(None, details)),
            failure,
        )

    def check_version(self) -> None:
        """Look at the version once. Raises ServerError if it is too old."""
        self._version = self._version or self._server.version()

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
        """Insert or replace documents in every generation."""
        state = self.state_for_writes()
        records, actors = _encoded(documents)
        if records or actors:
            for generation in state.generations:
                self._put(generation, records, actors)

    def delete(
        self, conn: Any, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None:
        """Remove records, and accounts with all their records."""
        if not addresses and not actors:
            return
        ids = [document_id(address) for address in addresses]
        for generation in self.state_for_writes().generations:
            self._remove(generation, ids, actors)

    def clear(self, conn: Any) -> None:
        """Forget everything: begin an empty generation, without a rebuild."""
        state = self.state_for_writes()
        fresh = Generation(state.next_number, (Slice(state.next_number + 1),))
        self.prepare(fresh)
        self.save(ExternalState(live=fresh, next_number=state.next_number + 2))
        self.discard([fresh])

    # --- rebuild ---

    def begin_rebuild(self, total: int) -> ExternalState:
        """Begin a new generation beside the live one, or go on with the last one."""
        state = self.state_for_writes()
        if state.rebuild is not None:
            return state
        target = Generation(state.next_number, (Slice(state.next_number + 1),))
        self.prepare(target)
        state = replace(
            state,
            rebuild=Rebuild(target, total=total),
            next_number=state.next_number + 2,
        )
        self.save(state)
        return state

    def fill(
        self, documents: Sequence[Document], position: tuple[int, int, int], done: int
    ) -> None:
        """Write documents of a rebuild and store how far it is."""
        state = self.state_for_writes()
        assert state.rebuild is not None
        target = state.rebuild.target or state.live
        records, actors = _encoded(documents)
        if records or actors:
            self._put(target, records, actors)
        state = self.state_for_writes()
        if state.rebuild is not None:
            rebuild = replace(state.rebuild, position=position, done=done)
            self.save(replace(state, rebuild=rebuild))

    def finish_rebuild(self) -> None:
        """Let the new generation answer, then delete the old one."""
        state = self.state_for_writes()
        if state.rebuild is None:
            return
        live = state.rebuild.target or state.live
        self.save(replace(state, live=live, rebuild=None))
        self.discard([live])

    def maintain(self) -> bool:
        """Do one bounded step of upkeep; return True if there may be more."""
        state = self.state_for_writes()
        for generation in state.generations:
            with self._noticing_loss():
                changed = self.tend(generation)
            if changed is not None:
                self.save(self.state_for_writes().replaced(changed))
                return True
        return False

    # --- state ---

    def state_for_writes(self) -> ExternalState:
        """Return the stored state; make the first generation before the first write.

        The first one is to be filled with everything that Postgres holds.
        """
        with self.pool.connection() as conn:
            state, failure = load_state(conn, self.name)
        self._failing = failure != ""
        if state is not None:
            return state
        first = replace(FIRST, rebuild=Rebuild(None))
        self.prepare(first.live)
        self.save(first)
        return first

    def state(self, *, fresh: bool = False) -> tuple[ExternalState | None, str]:
        """Return the state for a search, at most a second old, and the failure."""
        at, state, failure = self._cached
        if fresh or state is None or time.monotonic() - at > _FRESH_S:
            with self.pool.connection() as conn:
                state, failure = load_state(conn, self.name)
            self._cached = (time.monotonic(), state, failure)
        return state, failure

    def save(self, state: ExternalState) -> None:
        """Store the state, for this process at once."""
        with self.pool.connection() as conn, conn.transaction():
            save_state(conn, self.name, state)
        self._cached = (0.0, None, "")

    def note_failure(self, failure: str) -> None:
        """Store why a write failed, or that writes succeed again."""
        if failure or self._failing:
            with self.pool.connection() as conn, conn.transaction():
                save_failure(conn, self.name, failure[:500])
            self._failing = failure != ""

    def reading(self, read: Callable[[Generation], T]) -> T:
        """Search the live generation; look again if it was just replaced."""
        with suppress(IndexMissingError), self._noticing_loss():
            return read(self._live(fresh=False))
        with self._noticing_loss():
            return read(self._live(fresh=True))

    def _live(self, *, fresh: bool) -> Generation:
        state, _ = self.state(fresh=fresh)
        if state is None:
            raise EngineUnavailableError(
                f"the {self.name} index does not exist yet; the crawler makes it"
            )
        return state.live

    def _put(
        self,
        generation: Generation,
        records: Sequence[Fields],
        actors: Sequence[Fields],
    ) -> None:
        def write() -> None:
            state = self.state_for_writes()
            current = next(g for g in state.generations if g.number == number)
            changed = self.write(current, records, actors)
            if changed != current:
                self.save(self.state_for_writes().replaced(changed))

        number = generation.number
        self._retried(write, generation)

    def _remove(
        self, generation: Generation, ids: Sequence[str], actors: Sequence[int]
    ) -> None:
        self._retried(lambda: self.remove(generation, ids, actors), generation)

    def _retried(self, write: Callable[[], None], generation: Generation) -> None:
        """Write; if the server lost its indexes, make them anew and refill them."""
        try:
            with self._noticing_loss():
                write()
        except IndexMissingError:
            self.prepare(generation)
            state = self.state_for_writes()
            if state.rebuild is None:
                self.save(replace(state, rebuild=Rebuild(None)))
            else:
                self.save(
                    replace(
                        state,
                        rebuild=replace(state.rebuild, position=(0, 0, 0), done=0),
                    )
                )
            with self._noticing_loss():
                write()

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        try:
            yield
        except ServerError as error:
            if error.code == self.missing:
                raise IndexMissingError(str(error)) from None
            raise


def _encoded(documents: Sequence[Document]) -> tuple[list[Fields], list[Fields]]:
    """Return the records and the accounts."""
    return (
        [encode_record(d) for d in documents if isinstance(d, RecordDocument)],
        [encode_actor(d) for d in documents if isinstance(d, ActorDocument)],
    )
