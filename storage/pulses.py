"""The pulse of our own processes and scheduled tasks: one row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class Pulse:
    """`age_s`: seconds since the last beat; `figures`: what it said of itself."""

    name: str
    age_s: float
    figures: Mapping[str, Any]


def beat(conn: Conn, name: str, figures: Mapping[str, Any]) -> None:
    """Say that the process or task `name` is at work. Does not commit."""
    conn.execute(
        """
        INSERT INTO pulse (name, figures) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE SET at = now(), figures = excluded.figures
        """,
        (name, Jsonb(dict(figures))),
    )


def first_beat(conn: Conn, name: str, figures: Mapping[str, Any]) -> None:
    """Expect `name` to be at work from now on, unless it was before. Does not
    commit."""
    conn.execute(
        "INSERT INTO pulse (name, figures) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (name, Jsonb(dict(figures))),
    )


def forget_pulses(conn: Conn, prefix: str, keep: Iterable[str]) -> None:
    """Forget the pulses under `prefix` of what does not exist any more."""
    conn.execute(
        "DELETE FROM pulse WHERE starts_with(name, %s) AND name <> ALL(%s)",
        (prefix, list(keep)),
    )


def load_pulses(conn: Conn) -> dict[str, Pulse]:
    """Return every pulse by name."""
    with conn.cursor(row_factory=class_row(Pulse)) as cursor:
        cursor.execute(
            "SELECT name, extract(epoch FROM now() - at)::float8 AS age_s, figures"
            " FROM pulse"
        )
        return {pulse.name: pulse for pulse in cursor}
