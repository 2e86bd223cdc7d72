"""Writing of packed rows to every table that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from indexer.changes import Change, Prepared, prepare
from indexer.counting import count_links, count_rows
from storage.change_log import log_records
from storage.outbox import Cause, put_outbox
from storage.postgres.arrays import int_columns
from storage.postgres.copy import copy_rows
from storage.postgres.pool import Conn
from storage.records.collection_repos import COMMON, drop_holders, put_holders
from storage.records.interning import Interner
from storage.records.links import (
    LinkTuple,
    copy_links,
    delete_default_links,
    delete_links,
)
from storage.records.listing import copy_listed, delete_listed
from storage.records.record_rows import copy_records, delete_records
from storage.records.removed_verifications import note_verifications
from storage.records.rows import POST, RowTable, delete_rows, insert_rows
from storage.records.stats import StatsChange, apply_stats
from storage.records.uncounted_links import PARTITIONS as COUNTED_ONCE
from storage.records.uncounted_links import delete_uncounted, promote, set_apart


def apply_changes(
    conn: Conn, interner: Interner, changes: Iterable[Change], now: datetime
) -> StatsChange:
    """Prepare and write changes, piece by piece."""
    stats = StatsChange()
    for prepared in prepare(changes, interner, now):
        stats.merge(write(conn, prepared, now, cause=Cause.WRITTEN))
    return stats


def remove_records(
    conn: Conn,
    interner: Interner,
    actor: int,
    page: Iterable[tuple[int, int, bytes | None]],
    now: datetime,
) -> None:
    """Remove records (collection, rkey, bytes) of an account, with rows and counts.

    Damaged records, whose bytes are None, are left out.
    """
    known = [record for record in page if record[2] is not None]
    nsids = interner.nsids({record[0] for record in known})
    changes = [
        Change(actor, collection, rkey, nsids[collection], value, None)
        for collection, rkey, value in known
    ]
    apply_stats(conn, apply_changes(conn, interner, changes, now))


def write(
    conn: Conn,
    prepared: Prepared,
    now: datetime,
    *,
    fresh: bool = False,
    cause: Cause = Cause.FETCHED,
) -> StatsChange:
    """Write a batch within the caller's transaction; return the changes of counts.

    The caller applies them last, so that rows of popular posts are locked briefly. With
    `fresh`, nothing of these accounts is stored yet.
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
    note_verifications(conn, prepared.verifications, prepared.old_verifications, now)
    listed_at = delete_listed(conn, prepared.old_listed)
    copy_listed(conn, prepared.listed, now, listed_at)
    copy_records(conn, prepared.records)
    put_holders(conn, prepared.held)
    removed_from = {(a, c) for a, c, _ in prepared.replaced if c not in COMMON}
    drop_holders(conn, removed_from - prepared.held)
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
    put_outbox(conn, prepared.outbox, cause)
    log_records(conn, prepared.records, prepared.replaced)
    return stats


def _delete_links(conn: Conn, old: Sequence[LinkTuple], stats: StatsChange) -> None:
    """Remove edges; if one was counted, the next of its account is counted instead."""
    removed = delete_links(conn, old)
    count_links(stats, removed, -1)
    if len(removed) < len(old):
        there: set[LinkTuple] = set(removed)
        delete_uncounted(conn, [row for row in old if row not in there])
    count_links(stats, promote(conn, removed), 1)


_ERROR_COLUMNS: Final = ("actor", "collection", "rkey", "reason")
_ERROR_TYPES: Final = ("int4", "int4", "int8", "text")


def keep_first_seen(
    table: RowTable,
    rows: list[tuple[Any, ...]],
    first_seen: dict[tuple[int, int], datetime | None] | None,
) -> list[tuple[Any, ...]]:
    """Return rows that keep the time their record was first seen.

    An edit must not move a post to the top of a feed.
    """
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


def _delete_errors(conn: Conn, addresses: Sequence[tuple[int, int, int]]) -> None:
    conn.execute(
        """
        DELETE FROM index_error e USING
            unnest(%s::int4[], %s::int4[], %s::int8[]) AS d (actor, collection, rkey)
        WHERE e.actor = d.actor AND e.collection = d.collection AND e.rkey = d.rkey
        """,
        int_columns(addresses, 3),
    )
