"""Changes of records -> packed rows of every table that follows from them.

`prepare` reads and packs without a connection of its own; `row_writes.write` sends. An
update is a delete and an insert. Counts fall by what was really deleted, and the caller
reads the old records under the repo's lock: a change applied twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, Final, NamedTuple

from indexer.collections.source import Names, Source, Value, optional_time
from indexer.counting import count_edges, count_links
from indexer.links import MAX_LINKS, Link
from indexer.readings import NameSets, Reading, read_record, read_shaped, reason_of
from protocol.data import cbor
from protocol.errors import InvalidRecordError
from storage.collections import (
    BLOCK_SUBJECT,
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    FOLLOW_SUBJECT,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    GRAPH_VERIFICATION,
    LIKE_SUBJECT,
    NO_ACTOR,
    NO_COLLECTION,
    NO_RKEY,
    REPOST_SUBJECT,
    RKEY_SELF,
    VERIFICATION_SUBJECT,
)
from storage.records.collection_repos import COMMON
from storage.records.edge_batch import SHAPE_OF, Edges
from storage.records.interning import Interner
from storage.records.links import (
    DEFAULT_PARTITION,
    PARTITION_OF,
    PG_EPOCH_US,
    LinkTuple,
    pack_edges,
    pack_link,
    pg_time,
)
from storage.records.record_rows import pack_records, pack_stored
from storage.records.rows import RowTable
from storage.records.stats import StatsChange

_POST: Final = COLLECTION_IDS[FEED_POST]

_KEPT_DECODED_BYTES: Final = 128 * 1024
"""Bytes of records that stay decoded until their rows are made. Decoded they may take
seventy times the memory; those beyond are decoded twice."""
_MOST_LINKS: Final = 50_000
"""Maximum links of a piece. Ten thousand posts have about 30,000; other records may
have ten million, at 300 bytes each."""


class Change(NamedTuple):
    """A record before and after: exact bytes, None if there is none. `fields` is the
    new record decoded by `cbor.decode_fast`, if that was done already."""

    actor: int
    collection: int
    rkey: int
    nsid: str
    old: bytes | None
    new: bytes | None
    fields: Any = None

    def let_go(self) -> Change:
        """Return the change without the decoded record."""
        return self if self.fields is None else self._replace(fields=None)


class EdgeColumns(NamedTuple):
    """New records of one collection that are one edge each and nothing else."""

    nsid: str
    collection: int
    actors: Sequence[int]
    rkeys: Sequence[int]
    edges: Edges


@dataclass(slots=True)
class Prepared:
    """Packed rows of a batch of changes, ready to be written."""

    replaced: list[tuple[int, int, int]] = field(default_factory=list)
    old_links: list[LinkTuple] = field(default_factory=list)
    old_default_sources: list[tuple[int, int, int]] = field(default_factory=list)
    old_rows: dict[RowTable, list[tuple[int, int]]] = field(default_factory=dict)
    old_verifications: list[tuple[int, int, int]] = field(default_factory=list)
    verifications: list[tuple[int, int]] = field(default_factory=list)
    old_listed: list[tuple[int, int, int]] = field(default_factory=list)
    listed: list[tuple[int, int, int]] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    links: dict[str, list[bytes]] = field(default_factory=dict)
    rows: dict[RowTable, list[tuple[Any, ...]]] = field(default_factory=dict)
    errors: list[tuple[int, int, int, str]] = field(default_factory=list)
    outbox: list[tuple[int, int, int]] = field(default_factory=list)
    held: set[tuple[int, int]] = field(default_factory=set)
    stats: StatsChange = field(default_factory=StatsChange)


def prepare(
    changes: Iterable[Change],
    interner: Interner,
    indexed_at: datetime,
    edges: Iterable[EdgeColumns] = (),
) -> Iterator[Prepared]:
    """Read and pack a batch, in pieces if it holds very many links.

    Each address must occur once. `edges` were read before and are consumed last. Names
    are interned here, so hold no lock that a naming transaction could want.
    """
    piece = _Piece()
    shaped: dict[str, list[Change]] = {}
    for change in changes:
        if change.old == change.new:
            continue
        old = new = None
        if change.old is not None:
            old = read_record(change.nsid, change.old, None)
        if change.new is not None:
            shape = SHAPE_OF.get(change.nsid)
            if shape is not None and len(change.new) == shape.size:
                shaped.setdefault(change.nsid, []).append(change)
            else:
                new = read_record(change.nsid, change.new, change.fields)
        if old is not None or new is not None:
            piece.add(change, old, new)
            if piece.full:
                yield piece.pack(interner, indexed_at)
                piece = _Piece()
    columns = list(edges)
    for nsid, group in shaped.items():
        values = [change.new or b"" for change in group]
        for where, found in read_shaped(SHAPE_OF[nsid], values):
            part = group[where]
            if found is not None:
                actors = [change.actor for change in part]
                rkeys = [change.rkey for change in part]
                collection = part[0].collection
                columns.append(EdgeColumns(nsid, collection, actors, rkeys, found))
                continue
            for change in part:
                new = read_record(nsid, change.new or b"", change.fields)
                piece.add(change, None, new)
                if piece.full:
                    yield piece.pack(interner, indexed_at)
                    piece = _Piece()
    yield piece.pack(interner, indexed_at, columns)


class _Piece:
    """Changes that were read and are packed together."""

    def __init__(self) -> None:
        self._readings: list[tuple[Change, Reading | None, Reading | None]] = []
        self._seen = NameSets()
        self._links = 0
        self._decoded = 0

    @property
    def full(self) -> bool:
        return self._links >= _MOST_LINKS

    def add(self, change: Change, old: Reading | None, new: Reading | None) -> None:
        """Add a change and the readings of its two sides."""
        if old is not None:
            self._seen.add(change.collection, old.links)
            self._links += len(old.links)
            old = old.let_go()  # no rows are made of it
        if new is not None:
            self._seen.add(change.collection, new.links)
            self._links += len(new.links)
            self._decoded += len(change.new or b"")
            if self._decoded > _KEPT_DECODED_BYTES:
                change, new = change.let_go(), new.let_go()
        self._readings.append((change, old, new))

    def pack(
        self,
        interner: Interner,
        indexed_at: datetime,
        columns: Sequence[EdgeColumns] = (),
    ) -> Prepared:
        """Pack the rows of all that was added, and of `columns`."""
        prepared = Prepared()
        for column in columns:
            self._seen.add_dids(column.edges.dids)
        names, paths = self._seen.intern(interner)
        for change, old, new in self._readings:
            if old is not None:
                _prepare_old(prepared, change, old, names, paths)
            if new is not None:
                _prepare_new(prepared, change, new, names, paths, indexed_at)
            collection = (new or old).collection  # type: ignore[union-attr]
            if collection.to_text is not None:
                address = (change.actor, change.collection, change.rkey)
                prepared.outbox.append(address)
            if collection.listed:
                _prepare_listed(prepared, change)
        whole = [change for change, _, new in self._readings if new is not None]
        prepared.held = {
            (change.actor, change.collection)
            for change in whole
            if change.collection not in COMMON
        }
        prepared.records += pack_records(
            [change[:3] for change in whole], [change.new or b"" for change in whole]
        )
        for column in columns:
            _prepare_edges(prepared, column, names, indexed_at)
        return prepared


def _prepare_listed(prepared: Prepared, change: Change) -> None:
    address = (change.actor, change.collection, change.rkey)
    if change.old is not None:
        prepared.old_listed.append(address)
    if change.new is not None:
        prepared.listed.append(address)


def _link_rows(
    change: Change,
    links: Sequence[Link],
    names: Names,
    paths: dict[tuple[int, str], int],
) -> Iterable[LinkTuple]:
    actors, collections, rkeys = names.actors, names.collections, names.rkeys
    rows: dict[LinkTuple, None] = {}
    for path, did, nsid, rkey in links:
        rows[
            change.rkey,
            NO_RKEY if rkey is None else rkeys[rkey] if did else rkey,  # type: ignore[index]
            change.actor,
            actors[did] if did else NO_ACTOR,
            NO_COLLECTION if nsid is None else collections[nsid],
            path if type(path) is int else paths[change.collection, path],  # type: ignore[index]
        ] = None
    return rows


def _prepare_old(
    prepared: Prepared,
    change: Change,
    old: Reading,
    names: Names,
    paths: dict[tuple[int, str], int],
) -> None:
    address = (change.actor, change.collection, change.rkey)
    prepared.replaced.append(address)
    if old.links:
        has_default = False
        for row in _link_rows(change, old.links, names, paths):
            if row[5] in PARTITION_OF:
                prepared.old_links.append(row)
            else:
                has_default = True
                if row[5] == VERIFICATION_SUBJECT and change.new is None:
                    removed = (change.actor, change.rkey, row[3])
                    prepared.old_verifications.append(removed)
        if has_default:
            prepared.old_default_sources.append(address)
    table = old.collection.table
    if table is not None:
        keys = prepared.old_rows.setdefault(table, [])
        if not table.single or change.rkey == RKEY_SELF:
            keys.append((change.actor, change.rkey))


def _prepare_new(
    prepared: Prepared,
    change: Change,
    new: Reading,
    names: Names,
    paths: dict[tuple[int, str], int],
    indexed_at: datetime,
) -> None:
    actor, collection, rkey = change[:3]
    if change.nsid == GRAPH_VERIFICATION:
        prepared.verifications.append((actor, rkey))
    error = new.error
    if error is None:
        value = new.value
        if value is None:
            value = cbor.decode_fast(change.new or b"")
        # A name beyond the record's limit must not resolve because another record of
        # the batch has it.
        own = names if len(new.links) < MAX_LINKS else names.within(new.links)
        try:
            rows = new.collection.to_rows(value, Source(actor, rkey, indexed_at), own)
        except InvalidRecordError as fault:
            error = reason_of(fault)
        else:
            for table, row in rows:
                prepared.rows.setdefault(table, []).append(row)
            if new.links:
                links = _link_rows(change, new.links, names, paths)
                sort_at = _sort_time(value, indexed_at)
                for link in links:
                    partition = PARTITION_OF.get(link[5], DEFAULT_PARTITION)
                    packed = prepared.links.setdefault(partition, [])
                    packed.append(pack_link(link, sort_at))
                count_links(prepared.stats, links, 1)
    if error is not None:
        prepared.errors.append((actor, collection, rkey, error))


_EDGES: Final = {
    FEED_LIKE: (LIKE_SUBJECT, _POST),
    FEED_REPOST: (REPOST_SUBJECT, _POST),
    GRAPH_FOLLOW: (FOLLOW_SUBJECT, NO_COLLECTION),
    GRAPH_BLOCK: (BLOCK_SUBJECT, NO_COLLECTION),
}
"""Shaped collection -> link path, and the collection that it points at."""


def _sort_time(value: Value, indexed_at: datetime) -> int:
    """Return the `pg_time` that sorts a record's edges: the earlier of createdAt and
    indexed_at, as for posts."""
    created_at = optional_time(value)
    return pg_time(indexed_at if created_at is None else min(created_at, indexed_at))


def _prepare_edges(
    prepared: Prepared, columns: EdgeColumns, names: Names, indexed_at: datetime
) -> None:
    """Pack records that are one edge and nothing else: four in five of all."""
    nsid, collection, actors, rkeys, edges = columns
    path, target = _EDGES[nsid]
    targets = [names.actors[did] for did in edges.dids]
    target_rkeys = edges.rkeys or [NO_RKEY] * len(targets)
    addresses = zip(actors, repeat(collection), rkeys)
    prepared.records += pack_stored(addresses, edges.stored)
    latest = pg_time(indexed_at)
    times = [min(ms * 1000 - PG_EPOCH_US, latest) for ms in edges.created]
    packed = pack_edges(path, target, rkeys, target_rkeys, times, actors, targets)
    prepared.links.setdefault(PARTITION_OF[path], []).extend(packed)
    count_edges(prepared.stats, path, actors, targets, target_rkeys)
