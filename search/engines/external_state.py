"""The state of an engine outside Postgres: its indexes, and a rebuild under way.

The row in Postgres decides which indexes answer. One writer at a time changes it, under
the lock of the drain.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from search.slices import Slice, Slices, from_json, to_json
from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole copy of the index, in one slice or more."""

    number: int
    slices: Slices


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A rebuild: everything until `position` was written.

    It fills `target`, or the generation that answers if that is None (after its loss).
    """

    target: Generation | None
    position: tuple[int, int, int] = (0, 0, 0)
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class ExternalState:
    """The generation that answers, and the rebuild. `next_number` names new parts."""

    live: Generation
    rebuild: Rebuild | None = None
    next_number: int = 2

    @property
    def generations(self) -> tuple[Generation, ...]:
        """Return the generations that changes are written to."""
        if self.rebuild is None or self.rebuild.target is None:
            return (self.live,)
        return (self.live, self.rebuild.target)

    def replaced(self, generation: Generation) -> ExternalState:
        """Return the state with another version of one of its generations."""
        if generation.number == self.live.number:
            return replace(self, live=generation)
        assert self.rebuild is not None
        return replace(self, rebuild=replace(self.rebuild, target=generation))


_CURRENT: Final = "current"
"""Row that names the engine to which the drain writes."""
FIRST: Final = ExternalState(Generation(0, (Slice(1),)))


def load_state(conn: Conn, engine: str) -> tuple[ExternalState | None, str]:
    """Return the state, None before the first write, and the last failure."""
    row = conn.execute(
        "SELECT state, failure FROM search_engine WHERE name = %s", (engine,)
    ).fetchone()
    state, failure = row or (None, "")
    return (None if state is None else _read(state)), failure


def save_state(conn: Conn, engine: str, state: ExternalState) -> None:
    """Store the state. Does not commit."""
    conn.execute(
        """
        INSERT INTO search_engine (name, state) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE SET state = excluded.state
        """,
        (engine, json.dumps(_write(state))),
    )


def save_failure(conn: Conn, engine: str, failure: str) -> None:
    """Store the last failure, empty after a success. Does not commit."""
    conn.execute(
        """
        INSERT INTO search_engine (name, state, failure, failed_at)
        VALUES (%s, 'null', %s, now())
        ON CONFLICT (name) DO UPDATE SET failure = excluded.failure,
            failed_at = CASE WHEN excluded.failure = '' THEN NULL
                             ELSE coalesce(search_engine.failed_at, now()) END
        """,
        (engine, failure),
    )


def adopt(conn: Conn, engine: str) -> str | None:
    """Note that the drain writes to this engine; return the one before. Does not
    commit."""
    row = conn.execute(
        "SELECT state FROM search_engine WHERE name = %s FOR UPDATE", (_CURRENT,)
    ).fetchone()
    conn.execute(
        """
        INSERT INTO search_engine (name, state) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE SET state = excluded.state
        """,
        (_CURRENT, json.dumps(engine)),
    )
    return None if row is None else str(row[0])


def load_failures(conn: Conn) -> dict[str, str]:
    """Return the failures of engines that fail now."""
    return dict(
        conn.execute(
            "SELECT name, failure FROM search_engine WHERE failure <> ''"
        ).fetchall()
    )


def _write(state: ExternalState) -> dict[str, Any]:
    rebuild = state.rebuild
    return {
        "live": _write_generation(state.live),
        "next_number": state.next_number,
        "rebuild": None
        if rebuild is None
        else {
            "target": None
            if rebuild.target is None
            else _write_generation(rebuild.target),
            "position": rebuild.position,
            "done": rebuild.done,
            "total": rebuild.total,
        },
    }


def _write_generation(generation: Generation) -> dict[str, Any]:
    return {"number": generation.number, "slices": to_json(generation.slices)}


def _read(value: dict[str, Any]) -> ExternalState:
    rebuild = value["rebuild"]
    return ExternalState(
        live=_read_generation(value["live"]),
        next_number=value["next_number"],
        rebuild=None
        if rebuild is None
        else Rebuild(
            target=_maybe(_read_generation, rebuild["target"]),
            position=tuple(rebuild["position"]),
            done=rebuild["done"],
            total=rebuild["total"],
        ),
    )


def _read_generation(value: dict[str, Any]) -> Generation:
    return Generation(value["number"], from_json(value["slices"]))


def _maybe(
    read: Callable[[dict[str, Any]], Generation], value: dict[str, Any] | None
) -> Generation | None:
    return None if value is None else read(value)
