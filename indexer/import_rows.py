"""Records of repos that are new to us -> packed rows of every table that follows.

What `changes.prepare` does for any change, for the one that a backfill consists of:
records appear, none is replaced. Four in five records are nothing but an edge; those
are read, addressed and packed by the column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from indexer.changes import EDGES, Change, Prepared, prepare
from protocol.drops import DropReason
from protocol.limits import MAX_RECORD_BYTES_BACKFILL
from protocol.syntax import is_nsid, is_record_key
from storage.collections import (
    BLOCK_SUBJECT,
    FOLLOW_SUBJECT,
    LIKE_SUBJECT,
    NO_RKEY,
)
from storage.edge_batch import SHAPE_OF, Edges, read_edges, tid_numbers
from storage.interning import Interner, rkey_number
from storage.links import PARTITION_OF, pack_edges
from storage.records import pack_column
from storage.stats import FOLLOWERS, FOLLOWS, LIKES, REPOSTS, StatsChange


class ImportedRecord(Protocol):
    """What a repo reader gives (protocol.repo.RepoRecord)."""

    @property
    def collection(self) -> str:
        """The first part of the tree key."""

    @property
    def rkey(self) -> str:
        """The rest of the tree key."""

    @property
    def cid(self) -> bytes:
        """36 bytes, checked against `value`."""

    @property
    def value(self) -> bytes:
        """The exact bytes."""


Dropped = tuple[int, bytes, bytes, DropReason]
"""Actor, tree key, CID, reason: what is in a tree and is not kept."""


@dataclass(slots=True)
class Addressed:
    """Records of one collection of one repo, with the numbers of their keys."""

    actor: int
    nsid: str
    collection: int
    rkeys: list[int]
    records: list[ImportedRecord]


@dataclass(slots=True)
class ImportRows:
    """Rows of what was given, and what of it is not kept."""

    prepared: Prepared = field(default_factory=Prepared)
    records: int = 0
    dropped: list[Dropped] = field(default_factory=list)


class Addresses:
    """Numbers for the paths of imported records; collections are looked up once."""

    def __init__(self, interner: Interner) -> None:
        self._interner = interner
        self._collections: dict[str, int | None] = {}

    def sort(
        self,
        actor: int,
        records: Iterable[ImportedRecord],
        dropped: list[Dropped],
    ) -> list[Addressed]:
        """The records that can be kept, by collection; the rest into `dropped`."""
        groups: dict[str, list[ImportedRecord]] = {}
        for record in records:
            group = groups.get(record.collection)
            if group is None:
                group = groups[record.collection] = []
            group.append(record)
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
        self,
        actor: int,
        nsid: str,
        group: list[ImportedRecord],
        dropped: list[Dropped],
    ) -> Iterator[Addressed]:
        collection = self._collections[nsid]
        if collection is None:
            dropped += [_drop(actor, item, DropReason.BAD_PATH) for item in group]
            return
        if any(len(item.value) > MAX_RECORD_BYTES_BACKFILL for item in group):
            large = [i for i in group if len(i.value) > MAX_RECORD_BYTES_BACKFILL]
            dropped += [_drop(actor, i, DropReason.RECORD_TOO_LARGE) for i in large]
            group = [i for i in group if len(i.value) <= MAX_RECORD_BYTES_BACKFILL]
        numbers = tid_numbers([item.rkey for item in group]) if group else []
        if numbers is None:
            group, numbers = self._name(actor, group, dropped)
        if group:
            yield Addressed(actor, nsid, collection, numbers, group)

    def _name(
        self, actor: int, group: list[ImportedRecord], dropped: list[Dropped]
    ) -> tuple[list[ImportedRecord], list[int]]:
        """Records whose keys are not all TIDs."""
        kept: list[ImportedRecord] = []
        for item in group:
            if rkey_number(item.rkey) is not None or is_record_key(item.rkey):
                kept.append(item)
            else:
                dropped.append(_drop(actor, item, DropReason.BAD_PATH))
        numbers = self._interner.rkeys({item.rkey for item in kept})
        return kept, [numbers[item.rkey] for item in kept]


def _drop(actor: int, record: ImportedRecord, reason: DropReason) -> Dropped:
    path = f"{record.collection}/{record.rkey}"
    return actor, path.encode("utf-8", "surrogateescape"), record.cid, reason


def prepare_import(
    groups: Iterable[Addressed], interner: Interner, indexed_at: datetime
) -> Prepared:
    """Read and pack records of repos that hold nothing yet, each address once."""
    changes: list[Change] = []
    edges: list[tuple[Addressed, Edges]] = []
    for group in groups:
        shape = SHAPE_OF.get(group.nsid)
        if shape is not None:
            edges += _split_edges(group, shape.size, changes)
        else:
            changes += _changes(group, group.rkeys, group.records)
    dids: set[str] = set()
    for _, found in edges:
        dids.update(found.dids)
    actors = interner.actors(dids) if dids else {}
    prepared = prepare(changes, interner, indexed_at)
    for group, found in edges:
        _add_edges(prepared, group, found, actors)
    return prepared


def _split_edges(
    group: Addressed, size: int, changes: list[Change]
) -> Iterator[tuple[Addressed, Edges]]:
    """The records of a group that are edges; all others are added to `changes`."""
    rkeys: list[int] = []
    records: list[ImportedRecord] = []
    other_rkeys: list[int] = []
    others: list[ImportedRecord] = []
    for rkey, record in zip(group.rkeys, group.records, strict=True):
        if len(record.value) == size:
            rkeys.append(rkey)
            records.append(record)
        else:
            other_rkeys.append(rkey)
            others.append(record)
    if others:
        changes += _changes(group, other_rkeys, others)
    if not records:
        return
    found = read_edges(SHAPE_OF[group.nsid], [record.value for record in records])
    if found is None:
        # One of them only has the size: the general way tells which.
        changes += _changes(group, rkeys, records)
    else:
        yield (
            Addressed(group.actor, group.nsid, group.collection, rkeys, records),
            found,
        )


def _changes(
    group: Addressed, rkeys: Sequence[int], records: Sequence[ImportedRecord]
) -> list[Change]:
    actor, collection, nsid = group.actor, group.collection, group.nsid
    return [
        Change(actor, collection, rkey, nsid, None, record.value)
        for rkey, record in zip(rkeys, records, strict=True)
    ]


def _add_edges(
    prepared: Prepared, group: Addressed, found: Edges, actors: dict[str, int]
) -> None:
    actor = group.actor
    prepared.records += pack_column(actor, group.collection, group.rkeys, found.stored)
    path, collection = EDGES[group.nsid]
    targets = [actors[did] for did in found.dids]
    target_rkeys = found.rkeys or [NO_RKEY] * len(targets)
    packed = pack_edges(path, actor, collection, group.rkeys, targets, target_rkeys)
    prepared.links.setdefault(PARTITION_OF[path], []).extend(packed)
    _count(prepared.stats, path, actor, targets, target_rkeys)


def _count(
    stats: StatsChange,
    path: int,
    actor: int,
    targets: list[int],
    target_rkeys: list[int],
) -> None:
    if path == FOLLOW_SUBJECT:
        for target, times in Counter(targets).items():
            stats.add_actor(target, FOLLOWERS, times)
        stats.add_actor(actor, FOLLOWS, len(targets))
    elif path != BLOCK_SUBJECT:
        count = LIKES if path == LIKE_SUBJECT else REPOSTS
        for (rkey, target), times in Counter(
            zip(target_rkeys, targets, strict=True)
        ).items():
            stats.add_post(rkey, target, count, times)
