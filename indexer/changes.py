"""Changes of records -> rows of every table that follows from them.

`prepare` reads and packs and needs no connection of its own; `write` sends. An update
is a delete and an insert. What is taken from the counts is what was really deleted,
and what was there before is read by the caller under the lock of the repo, so a
change applied twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, Final, NamedTuple

import psycopg

from indexer.collections.source import Names, Source, Value, optional_time
from indexer.counting import count_edges, count_links, count_rows
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
    LIKE_SUBJECT,
    NO_COLLECTION,
    NO_RKEY,
    REPOST_SUBJECT,
    RKEY_SELF,
)
from storage.outbox import put_outbox
from storage.postgres.arrays import int_columns
from storage.postgres.copy import copy_rows
from storage.records.edge_batch import SHAPE_OF, Edges
from storage.records.interning import Interner
from storage.records.links import (
    DEFAULT_PARTITION,
    PARTITION_OF,
    PG_EPOCH_US,
    LinkTuple,
    copy_links,
    delete_default_links,
    delete_links,
    pack_edges,
    pack_link,
    pg_time,
)
from storage.records.record_rows import (
    copy_records,
    delete_records,
    pack_records,
    pack_stored,
)
from storage.records.rows import (
    POST,
    RowTable,
    delete_rows,
    insert_rows,
)
from storage.records.stats import StatsChange
from storage.records.uncounted_links import PARTITIONS as COUNTED_ONCE
from storage.records.uncounted_links import delete_uncounted, promote, set_apart

_POST: Final = COLLECTION_IDS[FEED_POST]

_KEPT_DECODED_BYTES: Final = 128 * 1024
"""Of the records of a batch that stay decoded until their rows are made. It may take
seventy times the memory; those beyond are decoded twice."""
_MOST_LINKS: Final = 50_000
"""Of a piece. Ten thousand posts have some thirty thousand; as many other records may
have ten million, at three hundred bytes each."""


class Change(NamedTuple):
    """A record before and after: exact bytes, None where there is none. `fields` is
    the new one decoded by `cbor.decode_fast`, where that has been done already."""

    actor: int
    collection: int
    rkey: int
    nsid: str
    old: bytes | None
    new: bytes | None
    fields: Any = None

    def let_go(self) -> Change:
        """The same without the decoded record."""
        return self if self.fields is None else self._replace(fields=None)


class EdgeColumns(NamedTuple):
    """New records of one collection that are one edge each, and nothing else."""

    nsid: str
    collection: int
    actors: Sequence[int]
    rkeys: Sequence[int]
    edges: Edges


@dataclass(slots=True)
class Prepared:
    """Packed rows of a batch of changes, ready to be sent."""

    replaced: list[tuple[int, int, int]] = field(default_factory=list)
    old_links: list[LinkTuple] = field(default_factory=list)
    old_default_sources: list[tuple[int, int, int]] = field(default_factory=list)
    old_rows: dict[RowTable, list[tuple[int, int]]] = field(default_factory=dict)
    records: list[bytes] = field(default_factory=list)
    links: dict[str, list[bytes]] = field(default_factory=dict)
    rows: dict[RowTable, list[tuple[Any, ...]]] = field(default_factory=dict)
    errors: list[tuple[int, int, int, str]] = field(default_factory=list)
    outbox: list[tuple[int, int, int]] = field(default_factory=list)
    stats: StatsChange = field(default_factory=StatsChange)


def prepare(
    changes: Iterable[Change],
    interner: Interner,
    indexed_at: datetime,
    edges: Iterable[EdgeColumns] = (),
) -> Iterator[Prepared]:
    """Read and pack a batch, in pieces where it holds very many links; `edges` were
    read before, and are asked for last. Each address must stand in it once.

    Names are interned here, so call it with no lock held that a naming transaction
    could want (none of ours does).
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
    """Changes that were read, and are packed together."""

    def __init__(self) -> None:
        self._readings: list[tuple[Change, Reading | None, Reading | None]] = []
        self._seen = NameSets()
        self._links = 0
        self._decoded = 0

    @property
    def full(self) -> bool:
        """Whether no more should be added."""
        return self._links >= _MOST_LINKS

    def add(self, change: Change, old: Reading | None, new: Reading | None) -> None:
        """Take in a change, and what was read of its two sides."""
        if old is not None:
            self._seen.add(change.collection, old.links)
            self._links += len(old.links)
            # No rows are made of it.
            old = old.let_go()
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
        """Rows of all that was added, and of `columns`."""
        prepared = Prepared()
        for column in columns:
            self._seen.add_dids(column.edges.dids)
        names, paths = self._seen.intern(interner)
        for change, old, new in self._readings:
            if old is not None:
                _prepare_old(prepared, change, old, names, paths)
            if new is not None:
                _prepare_new(prepared, change, new, names, paths, indexed_at)
            module = (new or old).module  # type: ignore[union-attr]
            if module.SEARCHABLE:
                address = (change.actor, change.collection, change.rkey)
                prepared.outbox.append(address)
        whole = [change for change, _, new in self._readings if new is not None]
        prepared.records += pack_records(
            [change[:3] for change in whole], [change.new or b"" for change in whole]
        )
        for column in columns:
            _prepare_edges(prepared, column, names, indexed_at)
        return prepared


def apply_changes(
    conn: psycopg.Connection[Any],
    interner: Interner,
    changes: Iterable[Change],
    now: datetime,
) -> StatsChange:
    """`prepare` and `write`, piece by piece."""
    stats = StatsChange()
    for prepared in prepare(changes, interner, now):
        stats.merge(write(conn, prepared))
    return stats


def write(
    conn: psycopg.Connection[Any], prepared: Prepared, *, fresh: bool = False
) -> StatsChange:
    """Send a batch within the caller's transaction; return the change of the counts,
    which the caller applies last, so that popular rows are locked the least.

    Where `fresh`, nothing of these accounts is held yet.
    """
    stats = prepared.stats
    first_seen: dict[RowTable, dict[tuple[int, int], datetime | None]] = {}
    if prepared.replaced:
        delete_records(conn, prepared.replaced)
        _delete_errors(conn, prepared.replaced)
    if prepared.old_links:
        _delete_links(conn, prepared.old_links, stats)
    delete_default_links(conn, prepared.old_default_sources)
    for table, keys in prepared.old_rows.items():
        removed = first_seen[table] = delete_rows(conn, table, keys)
        count_rows(stats, table, [actor for actor, _ in removed], -1)
    copy_records(conn, prepared.records)
    for partition in prepared.links.keys() & COUNTED_ONCE.keys():
        packed = prepared.links[partition]
        counted, aside = set_apart(conn, partition, packed, fresh=fresh)
        prepared.links[partition] = counted
        count_links(stats, aside, -1)
    copy_links(conn, prepared.links)
    for table, rows in prepared.rows.items():
        kept = keep_first_seen(table, rows, first_seen.get(table))
        insert_rows(conn, table, kept)
        count_rows(stats, table, [row[0] for row in kept], 1)
    copy_rows(conn, "index_error", _ERROR_COLUMNS, _ERROR_TYPES, prepared.errors)
    put_outbox(conn, prepared.outbox)
    return stats


def _delete_links(
    conn: psycopg.Connection[Any], old: Sequence[LinkTuple], stats: StatsChange
) -> None:
    """Remove edges; where one counted, the next of its account does from now on."""
    removed = delete_links(conn, old)
    count_links(stats, removed, -1)
    if len(removed) < len(old):
        there: set[LinkTuple] = set(removed)
        delete_uncounted(conn, [row for row in old if row not in there])
    count_links(stats, promote(conn, removed), 1)


_ERROR_COLUMNS: Final = ("actor", "collection", "rkey", "reason")
_ERROR_TYPES: Final = ("int4", "int4", "int8", "text")


def _link_rows(
    change: Change,
    links: Sequence[Link],
    names: Names,
    paths: dict[tuple[int, str], int],
) -> Iterable[LinkTuple]:
    """Rows of a record's links, each once."""
    actors, collections, rkeys = names.actors, names.collections, names.rkeys
    rows: dict[LinkTuple, None] = {}
    for path, did, nsid, rkey in links:
        rows[
            change.rkey,
            NO_RKEY if rkey is None else rkeys[rkey],
            change.actor,
            actors[did],
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
        if has_default:
            prepared.old_default_sources.append(address)
    for table in old.module.TABLES:
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
    error = new.error
    if error is None:
        value = new.value
        if value is None:
            value = cbor.decode_fast(change.new or b"")
        # What a link beyond the bound names must not be there because another record
        # of the batch names it too.
        own = names if len(new.links) < MAX_LINKS else names.within(new.links)
        try:
            rows = new.module.to_rows(value, Source(actor, rkey, indexed_at), own)
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
"""Of each shape the path, and what it points at."""


def _sort_time(value: Value, indexed_at: datetime) -> int:
    """The `pg_time` by which edges of a record are sorted, as posts are: the earlier of
    createdAt and the time it is indexed."""
    created_at = optional_time(value)
    return pg_time(indexed_at if created_at is None else min(created_at, indexed_at))


def _prepare_edges(
    prepared: Prepared, columns: EdgeColumns, names: Names, indexed_at: datetime
) -> None:
    """Records that are one edge and nothing else: four in five of all."""
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


def keep_first_seen(
    table: RowTable,
    rows: list[tuple[Any, ...]],
    first_seen: dict[tuple[int, int], datetime | None] | None,
) -> list[tuple[Any, ...]]:
    """Rows of edited records keep the time they were first seen: an edit must not
    bring a post to the top of a feed."""
    if not first_seen or not table.dated:
        return rows
    kept: list[tuple[Any, ...]] = []
    by_actor = {actor: seen for (actor, _), seen in first_seen.items()}
    place = table.columns.index("indexed_at")
    for row in rows:
        seen = by_actor.get(row[0]) if table.single else first_seen.get(row[:2])
        if seen is not None:
            changed = list(row)
            changed[place] = seen
            if table is POST:
                changed[_SORT_AT] = min(row[_CREATED_AT], seen)
            kept.append(tuple(changed))
        else:
            kept.append(row)
    return kept


_SORT_AT: Final = POST.columns.index("sort_at")
_CREATED_AT: Final = POST.columns.index("created_at")


def _delete_errors(
    conn: psycopg.Connection[Any], addresses: Sequence[tuple[int, int, int]]
) -> None:
    conn.execute(
        """
        DELETE FROM index_error e USING
            unnest(%s::int4[], %s::int4[], %s::int8[]) AS d (actor, collection, rkey)
        WHERE e.actor = d.actor AND e.collection = d.collection AND e.rkey = d.rkey
        """,
        int_columns(addresses, 3),
    )
