"""The common part of engines outside Postgres: state, generations, rebuilds, failures.

A generation is a whole copy of the index. Searches ask the live one; changes are
written to every generation, so that a new one can be filled while the old one serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from search.documents import ActorDocument, Document, RecordDocument
from search.engines.contract import EngineUnavailableError, SearchEngine
from search.engines.encoding import document_id, encode_actor, encode_record
from search.engines.external_state import (
    FIRST,
    ExternalState,
    Generation,
    Rebuild,
    load_state,
    save_failure,
    save_state,
)
from search.slices import Slice
from storage.postgres.pool import Pool
from storage.records.addresses import Address

_FRESH_S: Final = 1.0
"""Seconds after which a reader looks at the state again."""
Fields = dict[str, Any]
T = TypeVar("T")


class IndexMissingError(EngineUnavailableError):
    """An index that the state names does not exist at the server."""


class ExternalEngine(SearchEngine):
    """An engine outside Postgres; a subclass speaks with its server.

    All writes come from the holder of the drain's lock.
    """

    name: str
    external: bool = True

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
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
        """Write documents and wait; return the generation with its new numbers.

        Raises IndexMissingError.
        """
        raise NotImplementedError

    def remove(
        self, generation: Generation, ids: Sequence[str], actors: Sequence[int]
    ) -> None:
        """Remove documents and wait. Raises IndexMissingError."""
        raise NotImplementedError

    def tend(self, generation: Generation) -> Generation | None:
        """Do one bounded step of upkeep; None if there is nothing to do."""
        return None

    # --- the interface of search.engines.contract ---

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
        """Insert or replace documents in every generation."""
        state = self.state_for_writes()
        records = [encode_record(d) for d in documents if isinstance(d, RecordDocument)]
        actors = [encode_actor(d) for d in documents if isinstance(d, ActorDocument)]
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
        records = [encode_record(d) for d in documents if isinstance(d, RecordDocument)]
        actors = [encode_actor(d) for d in documents if isinstance(d, ActorDocument)]
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
        try:
            return read(self._live(fresh=False))
        except IndexMissingError:
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
            write()
