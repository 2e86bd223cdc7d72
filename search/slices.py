"""Time slices of an index outside Postgres: a pure policy.

New records go into a small slice, so that writes are cheap. When it is full it is kept
as it is, and a new one begins. Neighbours are merged until each slice is several times
as large as the next newer one: their number grows with the logarithm of the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

HOT_RECORDS: Final = 20_000
"""Records in the newest slice, after which the next one begins."""
RATIO: Final = 4
"""Each slice but the newest has at least this many times the records of the next
newer one."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice: records of the times `since` (included) to `until`, in microseconds.

    None stands for no bound. `records` is an estimate. While a slice is merged into the
    next older one, `copied` is the ID and time of the last record that was copied.
    """

    number: int
    since: int | None = None
    until: int | None = None
    records: int = 0
    merging: bool = False
    copied: tuple[int, str] | None = None

    def holds(self, ts: int) -> bool:
        """Return True if records of this time belong here."""
        return (self.since is None or self.since <= ts) and (
            self.until is None or ts < self.until
        )

    def meets(self, since: int | None, until: int | None) -> bool:
        """Return True if the slice has times in this range."""
        return not (
            (until is not None and self.since is not None and until <= self.since)
            or (since is not None and self.until is not None and since >= self.until)
        )


Slices = tuple[Slice, ...]
"""All slices, the newest first; together they hold every time once."""


def targets(slices: Slices, ts: int) -> Slices:
    """Return the slices to which a record is written: its own first.

    A record of a slice that is being merged is written to the older one too.
    """
    at = next(i for i, one in enumerate(slices) if one.holds(ts))
    return slices[at : at + 2] if slices[at].merging else slices[at : at + 1]


def is_full(slices: Slices, hot_records: int = HOT_RECORDS) -> bool:
    """Return True if the newest slice should be closed."""
    return slices[0].records >= hot_records


def begin(slices: Slices, since: int, number: int) -> Slices:
    """Close the newest slice at `since`, and begin the next one."""
    newest = slices[0]
    if newest.merging or not newest.holds(since):
        raise ValueError("the newest slice cannot end at this time")
    return (
        Slice(number, since, newest.until),
        replace(newest, until=since),
        *slices[1:],
    )


def next_merge(slices: Slices, ratio: int = RATIO) -> int | None:
    """Return the place of the slice to merge into the next older one, None if none.

    A merge that has begun comes first.
    """
    for i, one in enumerate(slices):
        if one.merging:
            return i
    for i in range(1, len(slices) - 1):
        if slices[i].records * ratio >= slices[i + 1].records:
            return i
    return None


def mark_merging(slices: Slices, at: int, copied: tuple[int, str] | None) -> Slices:
    """Return the slices with the progress of a merge."""
    return _replaced(slices, at, replace(slices[at], merging=True, copied=copied))


def merged(slices: Slices, at: int) -> Slices:
    """Return the slices after the one at `at` was copied into the next older one."""
    newer, older = slices[at : at + 2]
    whole = replace(older, until=newer.until, records=older.records + newer.records)
    return (*slices[:at], whole, *slices[at + 2 :])


def counted(slices: Slices, records: Sequence[int]) -> Slices:
    """Return the slices with their numbers of records."""
    return tuple(
        replace(one, records=number)
        for one, number in zip(slices, records, strict=True)
    )


def walk(slices: Slices, since: int | None, until: int | None) -> Iterator[Slices]:
    """Yield the slices of a range of times, the newest first, in groups of 1, 2, 4."""
    wanted = [one for one in slices if one.meets(since, until)]
    at, size = 0, 1
    while at < len(wanted):
        yield tuple(wanted[at : at + size])
        at, size = at + size, size * 2


def _replaced(slices: Slices, at: int, one: Slice) -> Slices:
    return (*slices[:at], one, *slices[at + 1 :])


def to_json(slices: Slices) -> list[dict[str, Any]]:
    """Return slices as JSON."""
    return [
        {
            "number": one.number,
            "since": one.since,
            "until": one.until,
            "records": one.records,
            "merging": one.merging,
            "copied": one.copied,
        }
        for one in slices
    ]


def from_json(values: Sequence[dict[str, Any]]) -> Slices:
    """Return slices as `to_json` wrote them."""
    return tuple(
        Slice(
            **{**value, "copied": tuple(value["copied"]) if value["copied"] else None}
        )
        for value in values
    )
