"""What the audit found of repos drawn at random, and what that says of all of them."""

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
# Ids that are tried for each repo wanted: most ids are of accounts without a repo.
_DRAWS: Final = 200


class Verdict(StrEnum):
    """What one look at a repo came to. A closed set: metric labels."""

    EQUAL = "equal"
    """Our rows are what was signed, and that is the host's latest."""
    LAGGING = "lagging"
    """As signed; the host has something newer of a moment ago."""
    BEHIND = "behind"
    """As signed, but the host has had something newer for longer."""
    AHEAD = "ahead"
    """As signed, and newer than what the host says is its latest."""
    FORKED = "forked"
    """As signed, but under this revision the host has another commit."""
    WRONG = "wrong"
    """Our rows are not what was signed."""
    WAITING = "waiting"
    """Not synchronized: waiting to be fetched."""
    UNREACHABLE = "unreachable"
    """As signed; the host could not be asked."""
    REFUSED = "refused"
    """As signed; the host says that it gives no such repo (any more)."""
    PARTIAL = "partial"
    """Only chosen collections are held: those are as signed, by the host's own nodes,
    and the rest is not here."""
    UNPROVEN = "unproven"
    """Only chosen collections are held, and the host gave nothing to prove them by."""
    TOO_LARGE = "too_large"
    """Too large to be looked at in one step."""


SOUND: Final = frozenset({Verdict.EQUAL, Verdict.LAGGING})
UNSOUND: Final = frozenset({Verdict.WRONG, Verdict.FORKED, Verdict.BEHIND})
"""What is a fault of ours, or must be taken for one; others are their host's."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """The share of known active repos that are synchronized and equal to their
    host's, estimated from `samples` draws; `low` to `high` is its 95 % interval
    (Wilson). `chosen` is the share of those that hold all that they are said to hold:
    partial ones that were proven, too. None without samples."""

    samples: int
    verdicts: Mapping[Verdict, int]
    share: float | None
    low: float | None
    high: float | None
    chosen: float | None = None


def draw_repos(conn: Conn, count: int) -> list[tuple[int, str]]:
    """(actor, DID) of up to `count` known active repos, each as likely as any other.

    By drawing ids and keeping those that are of such a repo: the cost does not grow
    with the table. May give fewer where repos are rare among the accounts.
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
    """Keep a finding, and forget those that are too old to count."""
    text = None if detail is None else detail[:_MAX_DETAIL_CHARS].replace("\0", "")
    row = conn.execute(
        "INSERT INTO audit_sample (actor, verdict, detail) VALUES (%s, %s, %s)"
        " RETURNING id",
        (actor, verdict, text),
    ).fetchone()
    assert row is not None
    conn.execute("DELETE FROM audit_sample WHERE id <= %s", (row[0] - KEPT,))


def completeness(conn: Conn) -> Completeness:
    """What the samples that are kept say of all known active repos."""
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
    """The 95 % interval of a share of which `hits` of `tries` draws were; sound for
    shares near 0 and 1 too, where the ordinary error would be none."""
    share = hits / tries
    square = _Z95 * _Z95
    middle = (share + square / (2 * tries)) / (1 + square / tries)
    spread = math.sqrt(share * (1 - share) / tries + square / (4 * tries * tries))
    reach = _Z95 * spread / (1 + square / tries)
    return max(0.0, middle - reach), min(1.0, middle + reach)
