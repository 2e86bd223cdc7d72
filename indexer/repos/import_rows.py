"""Records of new repos -> input of `changes.prepare`.

A backfill only adds records. Four in five are one edge and nothing else: those are
addressed and read by column, and become no `Change`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import compress, groupby
from operator import attrgetter
from typing import Final

from indexer.changes import Change, EdgeColumns, Prepared, prepare
from indexer.readings import read_shaped
from protocol.data.record import open_record
from protocol.events.drops import DropReason
from protocol.limits import MAX_RECORD_BYTES_BACKFILL
from protocol.repo.whole_repo import RepoRecord
from protocol.syntax import is_nsid, is_record_key
from storage.records.edge_batch import SHAPE_OF, tid_numbers
from storage.records.interning import Interner, rkey_number

_collection_of: Final = attrgetter("collection")

Dropped = tuple[int, bytes, bytes, DropReason]
"""Actor, tree key, CID and reason of a record that is in a tree and not kept."""


@dataclass(slots=True)
class Addressed:
    """Records of one collection of one repo, with the ids of their keys."""

    actor: int
    nsid: str
    collection: int
    rkeys: list[int]
    records: list[RepoRecord]


class Addresses:
    """Ids for the paths of imported records; each collection is interned once."""

    def __init__(self, interner: Interner) -> None:
        self._interner = interner
        self._collections: dict[str, int | None] = {}

    def sort(
        self, actor: int, records: Iterable[RepoRecord], dropped: list[Dropped]
    ) -> list[Addressed]:
        """Return the records to keep by collection; put the rest into `dropped`."""
        groups: dict[str, list[RepoRecord]] = {}
        for nsid, together in groupby(records, _collection_of):
            groups.setdefault(nsid, []).extend(together)
        names = groups.keys() - self._collections.keys()
        good = [name for name in names if is_nsid(name)]
        self._collections.update(dict.fromkeys(names))
        self._collections.update(self._interner.collections(good))
        return [
            found
            for nsid, group in groups.items()
            for found in self._address(actor, nsid, group, dropped)
        ]

    def _address(
        self, actor: int, nsid: str, group: list[RepoRecord], dropped: list[Dropped]
    ) -> Iterator[Addressed]:
        collection = self._collections[nsid]
        if collection is None:
            dropped += [_drop(actor, item, DropReason.BAD_PATH) for item in group]
            return
        numbers = tid_numbers([item.rkey for item in group])
        if numbers is None:
            group, numbers = self._name(actor, group, dropped)
        if group:
            yield Addressed(actor, nsid, collection, numbers, group)

    def _name(
        self, actor: int, group: list[RepoRecord], dropped: list[Dropped]
    ) -> tuple[list[RepoRecord], list[int]]:
        """Return the records with valid keys, not all of them TIDs, and their ids."""
        kept: list[RepoRecord] = []
        for item in group:
            if rkey_number(item.rkey) is not None or is_record_key(item.rkey):
                kept.append(item)
            else:
                dropped.append(_drop(actor, item, DropReason.BAD_PATH))
        numbers = self._interner.rkeys({item.rkey for item in kept})
        return kept, [numbers[item.rkey] for item in kept]


def _drop(actor: int, record: RepoRecord, reason: DropReason) -> Dropped:
    path = f"{record.collection}/{record.rkey}"
    return actor, path.encode("utf-8", "surrogateescape"), record.cid, reason


def prepare_import(
    groups: Iterable[Addressed],
    interner: Interner,
    indexed_at: datetime,
    dropped: list[Dropped],
) -> Iterator[Prepared]:
    """Read and pack records of repos that hold nothing yet, in pieces.

    Each address must occur once. Records that cannot be kept go into `dropped`.
    """
    edges: list[EdgeColumns] = []
    changes = _sort(groups, edges, dropped)
    return prepare(changes, interner, indexed_at, edges)


def _sort(
    groups: Iterable[Addressed], edges: list[EdgeColumns], dropped: list[Dropped]
) -> Iterator[Change]:
    """Put edges into `edges`, and yield the other records one by one.

    Only the record being read is decoded. `edges` is complete after the last one.
    """
    for group in groups:
        shape = SHAPE_OF.get(group.nsid)
        if shape is None:
            yield from _changes(group, group.rkeys, group.records, dropped)
            continue
        rkeys, records = group.rkeys, group.records
        values = [record.value for record in records]
        sizes = list(map(len, values))
        if sizes.count(shape.size) < len(sizes):
            fits = [size == shape.size for size in sizes]
            misses = [not fit for fit in fits]
            yield from _changes(
                group, compress(rkeys, misses), compress(records, misses), dropped
            )
            rkeys = list(compress(rkeys, fits))
            records = list(compress(records, fits))
            values = list(compress(values, fits))
        for where, found in read_shaped(shape, values):
            if found is None:
                yield from _changes(group, rkeys[where], records[where], dropped)
            else:
                actors = [group.actor] * len(found.dids)
                edges.append(
                    EdgeColumns(
                        group.nsid, group.collection, actors, rkeys[where], found
                    )
                )


def _changes(
    group: Addressed,
    rkeys: Iterable[int],
    records: Iterable[RepoRecord],
    dropped: list[Dropped],
) -> Iterator[Change]:
    actor, collection, nsid = group.actor, group.collection, group.nsid
    shape = SHAPE_OF.get(nsid)
    size = None if shape is None else shape.size
    for rkey, record in zip(rkeys, records, strict=True):
        fields = open_record(record.value, MAX_RECORD_BYTES_BACKFILL)
        if isinstance(fields, DropReason):
            dropped.append(_drop(actor, record, fields))
        else:
            # A record with the size of a shape waits for others of the shape.
            kept = None if len(record.value) == size else fields
            yield Change(actor, collection, rkey, nsid, None, record.value, kept)
