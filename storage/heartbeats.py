"""Heartbeats of our processes and scheduled tasks: one row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last beat, `age_s` seconds ago, with the `figures` it reported."""

    name: str
    age_s: float
    figures: Mapping[str, Any]


def beat(conn: Conn, name: str, figures: Mapping[str, Any]) -> None:
    """Note that the process or task `name` is running. Does not commit."""
    conn.execute(
        """
        INSERT INTO pulse (name, figures) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE SET at = now(), figures = excluded.figures
        """,
        (name, Jsonb(dict(figures))),
    )


def first_beat(conn: Conn, name: str, figures: Mapping[str, Any]) -> None:
    """Expect beats of `name` from now on, unless there were some. Does not commit."""
    conn.execute(
        "INSERT INTO pulse (name, figures) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (name, Jsonb(dict(figures))),
    )


def forget_heartbeats(conn: Conn, prefix: str, keep: Iterable[str]) -> None:
    """Delete the heartbeats under `prefix`, except those to keep."""
    conn.execute(
        "DELETE FROM pulse WHERE starts_with(name, %s) AND name <> ALL(%s)",
        (prefix, list(keep)),
    )


def load_heartbeats(conn: Conn) -> dict[str, Heartbeat]:
    with conn.cursor(row_factory=class_row(Heartbeat)) as cursor:
        cursor.execute(
            "SELECT name, extract(epoch FROM now() - at)::float8 AS age_s, figures"
            " FROM pulse"
        )
        return {found.name: found for found in cursor}
