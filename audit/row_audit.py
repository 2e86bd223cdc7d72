"""Audit of derived rows: they are made of the records again and compared.

Only the time of first indexing is taken from the row itself. Surplus edges are
expensive to find: edges have no index by source, so all of them must be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from audit.repo_audit import RepoAudit, audit_repo
from indexer.apply import plan_for_probes
from indexer.changes import Change, Prepared, prepare
from indexer.collections.registry import ROW_TABLES
from indexer.row_writes import keep_first_seen
from storage.postgres.pool import Conn
from storage.postgres.transaction import require_idle
from storage.records.collection_repos import fetch_held
from storage.records.distant_replies import count_wrong_distant_replies
from storage.records.interning import Interner
from storage.records.links import (
    DEFAULT_PARTITION,
    count_default_links_of,
    count_links_of,
    find_wrong_links,
    links_size,
    unpack_link,
)
from storage.records.listing import fetch_listed
from storage.records.record_rows import iter_pages
from storage.records.removed_verifications import count_surplus_removals
from storage.records.rows import RowTable, count_rows_of, fetch_rows
from storage.records.uncounted_links import count_uncounted_of, find_aside

MOST_LINK_BYTES: Final = 256 * 1024**2
"""Maximum bytes of edges read for one repo in a step of the continuous audit."""

_ERRORS: Final = "index_error"
_LISTED: Final = "listed_record"
_DISTANT: Final = "distant_reply"
_REMOVED: Final = "removed_verification"
_HOLDERS: Final = "collection_repo"
# Later than any record: dated rows hold their own time, and edges are compared with
# the latest possible one.
_LATEST: Final = datetime.max.replace(tzinfo=UTC)

Address = tuple[int, int]


@dataclass(slots=True)
class RowAudit:
    """Table -> number of wrong, missing or surplus rows."""

    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.wrong.total()

    def describe(self) -> str:
        found = ", ".join(f"{name} {n}" for name, n in sorted(self.wrong.items()) if n)
        return f"rows that differ from their records: {found}"


def audit_whole(
    conn: Conn,
    interner: Interner,
    did: str,
    *,
    most_records: int | None = None,
    most_link_bytes: int | None = None,
) -> RepoAudit:
    """Run `audit_repo`, and audit the derived rows if it finds nothing.

    Raises the same errors.
    """
    found = audit_repo(conn, did, most_records=most_records)
    if not found.ok:
        return found
    rows = audit_rows(conn, interner, did, most_link_bytes=most_link_bytes)
    return found if rows.ok else replace(found, fault=rows.describe())


def audit_rows(
    conn: Conn, interner: Interner, did: str, *, most_link_bytes: int | None = None
) -> RowAudit:
    """Make the rows of every record of a repo again and compare, in one snapshot.

    Reads a page of records at a time. Surplus edges are searched if at most
    `most_link_bytes` must be read.
    """
    actor = interner.actors([did])[did]
    require_idle(conn)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        plan_for_probes(conn)
        audit = _Audit(conn, interner, actor)
        for page in iter_pages(conn, actor):
            audit.take(page)
        audit.count(most_link_bytes)
    return RowAudit(audit.wrong)


class _Audit:
    def __init__(self, conn: Conn, interner: Interner, actor: int) -> None:
        self.wrong: Counter[str] = Counter()
        self._conn = conn
        self._interner = interner
        self._actor = actor
        self._expected: Counter[str] = Counter()
        self._holds: set[tuple[int, int]] = set()

    def take(self, page: Sequence[tuple[int, int, bytes]]) -> None:
        """Compare the rows of the next records: (collection, rkey, bytes)."""
        nsids = self._interner.nsids({collection for collection, _, _ in page})
        changes = [
            Change(self._actor, collection, rkey, nsids[collection], None, value)
            for collection, rkey, value in page
        ]
        errors: set[tuple[int, int]] = set()
        for prepared in prepare(changes, self._interner, _LATEST):
            for table, rows in prepared.rows.items():
                self._compare_rows(table, rows)
            self._compare_links(prepared)
            self._compare_listed(prepared)
            self._holds |= prepared.held
            errors.update(row[1:3] for row in prepared.errors)
        self._compare_errors(errors, page)

    def _compare_rows(self, table: RowTable, rows: list[tuple[Any, ...]]) -> None:
        rkeys = [] if table.single else [row[1] for row in rows]
        held = fetch_rows(self._conn, table, self._actor, rkeys)
        width = 1 if table.single else 2
        if table.dated:
            seen = table.columns.index("indexed_at")
            times = {(row[0], 0 if table.single else row[1]): row[seen] for row in held}
            rows = keep_first_seen(table, rows, times)
        ours = {row[:width]: _comparable(row) for row in held}
        self._expected[table.name] += len(rows)
        self.wrong[table.name] += sum(
            ours.get(row[:width]) != _comparable(row) for row in rows
        )

    def _compare_links(self, prepared: Prepared) -> None:
        for partition, packed in prepared.links.items():
            rows = [unpack_link(row) for row in packed]
            self._expected[partition] += len(rows)
            missing, extra = find_wrong_links(self._conn, partition, rows)
            if missing and partition != DEFAULT_PARTITION:
                extra -= find_aside(self._conn, partition, missing)
            self.wrong[partition] += len(missing) + extra

    def _compare_listed(self, prepared: Prepared) -> None:
        held = fetch_listed(self._conn, prepared.listed)
        self._expected[_LISTED] += len(prepared.listed)
        self.wrong[_LISTED] += len(prepared.listed) - len(held)

    def _compare_errors(
        self, expected: set[tuple[int, int]], page: Sequence[tuple[int, int, bytes]]
    ) -> None:
        """Compare which records have errors; their texts may have changed."""
        rows = self._conn.execute(
            """
            SELECT e.collection, e.rkey FROM index_error e
            JOIN unnest(%s::int4[], %s::int8[]) AS d (collection, rkey)
              ON e.collection = d.collection AND e.rkey = d.rkey
            WHERE e.actor = %s
            """,
            ([row[0] for row in page], [row[1] for row in page], self._actor),
        ).fetchall()
        self._expected[_ERRORS] += len(expected)
        self.wrong[_ERRORS] += len(expected ^ set(rows))

    def count(self, most_link_bytes: int | None) -> None:
        """Count the rows without a record."""
        conn, actor = self._conn, self._actor
        self.wrong[_HOLDERS] += len(self._holds ^ fetch_held(conn, actor))
        tables = [table.name for table in ROW_TABLES] + [_ERRORS, _LISTED]
        held: Mapping[str, int] = count_rows_of(conn, tables, actor)
        if most_link_bytes is None or links_size(conn) <= most_link_bytes:
            links = Counter(count_links_of(conn, actor))
            links.update(count_uncounted_of(conn, actor))
            held = {**held, **links}
        else:
            held = {**held, DEFAULT_PARTITION: count_default_links_of(conn, actor)}
        self.wrong[_DISTANT] += count_wrong_distant_replies(conn, actor)
        self.wrong[_REMOVED] += count_surplus_removals(conn, actor)
        for name, number in held.items():
            self.wrong[name] += max(0, number - self._expected[name])


def _comparable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(list(value) if isinstance(value, tuple) else value for value in row)
