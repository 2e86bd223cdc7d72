"""Findings of the audit, and the completeness estimated from them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from storage.postgres.pool import Conn

KEPT: Final = 10_000
_MAX_DETAIL_CHARS: Final = 200
_Z95: Final = 1.96
# Ids drawn for each wanted repo: most accounts have none.
_DRAWS: Final = 200


class Verdict(StrEnum):
    """Result of the check of one repo; a closed set of metric labels."""

    EQUAL = "equal"
    """The rows are as signed, and at the host's latest commit."""
    LAGGING = "lagging"
    """As signed; the host has a commit of a moment ago."""
    BEHIND = "behind"
    """As signed, but the host has had a newer commit for longer."""
    AHEAD = "ahead"
    """As signed, and newer than the host's latest commit."""
    FORKED = "forked"
    """As signed, but the host has another commit of this revision."""
    WRONG = "wrong"
    """The rows differ from the signed tree."""
    WAITING = "waiting"
    """Not synchronized: waiting to be fetched."""
    UNREACHABLE = "unreachable"
    """As signed; the host did not answer."""
    REFUSED = "refused"
    """As signed; the host does not serve the repo (any more)."""
    PARTIAL = "partial"
    """Only chosen collections are stored; they match the host's nodes."""
    UNPROVEN = "unproven"
    """Only chosen collections are stored, and the host offered no proof of them."""
    TOO_LARGE = "too_large"
    """Too large for one step."""


SOUND: Final = frozenset({Verdict.EQUAL, Verdict.LAGGING})
UNSOUND: Final = frozenset({Verdict.WRONG, Verdict.FORKED, Verdict.BEHIND})
"""Faults of ours, or indistinguishable from them; others are their host's."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """Share of known active repos that are synchronized and equal to their host's.

    Estimated from `samples` draws; `low` to `high` is its 95 % interval (Wilson).
    `chosen` also includes partial repos that were proven. None without samples.
    """

    samples: int
    verdicts: Mapping[Verdict, int]
    share: float | None
    low: float | None
    high: float | None
    chosen: float | None = None


def draw_repos(conn: Conn, count: int) -> list[tuple[int, str]]:
    """Return (actor, DID) of up to `count` known active repos, drawn uniformly.

    Draws ids and keeps those of such repos, so the cost does not grow with the table.
    May return fewer if repos are rare among accounts.
    """
    row = conn.execute("SELECT max(id) FROM actor").fetchone()
    most = row[0] if row else None
    if not most or count <= 0:
        return []
    if most <= count * _DRAWS:
        ids = list(range(1, most + 1))
    else:
        ids = random.sample(range(1, most + 1), count * _DRAWS)
    rows = conn.execute(
        """
        SELECT actor.id, did FROM actor JOIN repo ON repo.actor = actor.id
        WHERE actor.id = ANY(%s) AND upstream_status = 'active' AND takedown IS NULL
        """,
        (ids,),
    ).fetchall()
    return random.sample(rows, min(count, len(rows)))


def note_sample(conn: Conn, actor: int, verdict: Verdict, detail: str | None) -> None:
    """Store a finding and delete those that are too old to count."""
    text = None if detail is None else detail[:_MAX_DETAIL_CHARS].replace("\0", "")
    row = conn.execute(
        "INSERT INTO audit_sample (actor, verdict, detail) VALUES (%s, %s, %s)"
        " RETURNING id",
        (actor, verdict, text),
    ).fetchone()
    assert row is not None
    conn.execute("DELETE FROM audit_sample WHERE id <= %s", (row[0] - KEPT,))


def completeness(conn: Conn) -> Completeness:
    """Estimate the completeness from the stored samples."""
    counts = dict.fromkeys(Verdict, 0)
    for verdict, number in conn.execute(
        "SELECT verdict, count(*) FROM audit_sample GROUP BY verdict"
    ):
        counts[Verdict(verdict)] = number
    samples = sum(counts.values())
    if samples == 0:
        return Completeness(0, counts, None, None, None)
    sound = sum(counts[verdict] for verdict in SOUND)
    low, high = wilson(sound, samples)
    chosen = (sound + counts[Verdict.PARTIAL]) / samples
    return Completeness(samples, counts, sound / samples, low, high, chosen)


def wilson(hits: int, tries: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, sound near 0 and 1 too."""
    share = hits / tries
    square = _Z95 * _Z95
    middle = (share + square / (2 * tries)) / (1 + square / tries)
    spread = math.sqrt(share * (1 - share) / tries + square / (4 * tries * tries))
    reach = _Z95 * spread / (1 + square / tries)
    return max(0.0, middle - reach), min(1.0, middle + reach)
