"""Batches split into parts that each fit one transaction.

Batches are bounded in events and bytes. Yet one block under two hundred keys makes
130,000 links from 35 kB, and a small commit may delete as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from indexer.links import most_links
from protocol.events.event import CommitEvent, Event

MOST_LINKS: Final = 100_000
"""Maximum links of a part of several events; a thousand posts have about 3,000."""
LINKS_OF_REPLACED: Final = 250
"""Assumed links of a deleted or overwritten record, before it is read. Most have at
most three, none more than a thousand."""


def parts_of(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield the events in order, in one part or more."""
    begun = links = 0
    for index, event in enumerate(events):
        weight = _weight(event) if type(event) is CommitEvent else 0
        links += weight
        if links > MOST_LINKS and index > begun:
            yield events[begun:index]
            begun, links = index, weight
    yield events[begun:]


def _weight(event: CommitEvent) -> int:
    weight = LINKS_OF_REPLACED * len(event.drops)
    for op in event.ops:
        if op.value is not None:
            weight += most_links(op.value)
        if op.action != "create":
            weight += LINKS_OF_REPLACED
    return weight
