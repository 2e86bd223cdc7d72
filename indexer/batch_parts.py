"""A batch in parts of which each can be one transaction.

A batch comes bounded in events and in bytes. But one block may stand under two hundred
keys of a commit, so that 35 kB of it make 130,000 links, and a small commit may delete
as many: a batch of those would be one transaction of a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from indexer.links import most_links
from protocol.events.event import CommitEvent, Event

MOST_LINKS: Final = 100_000
"""Of a part of several events. A batch of a thousand posts has some three thousand."""
LINKS_OF_REPLACED: Final = 250
"""So many does a record count for that is deleted or overwritten: what it has is only
known once it is read. Nearly all have three at most, none more than a thousand."""


def parts_of(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """The events in their order, in one part or more."""
    begun = links = 0
    for index, event in enumerate(events):
        weight = _weight(event) if type(event) is CommitEvent else 0
        links += weight
        if links > MOST_LINKS and index > begun:
            yield events[begun:index]
            begun, links = index, weight
    yield events[begun:]


def _weight(event: CommitEvent) -> int:
    """How many links are written or removed for a commit, about."""
    weight = LINKS_OF_REPLACED * len(event.drops)
    for op in event.ops:
        if op.value is not None:
            weight += most_links(op.value)
        if op.action != "create":
            weight += LINKS_OF_REPLACED
    return weight
