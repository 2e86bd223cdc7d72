"""Repair of a repo with wrong rows: it is cleared and fetched again.

A fetch compares records only, and changes derived rows with their record. It does not
repair a row that was lost or changed by itself, so all rows of the repo go first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from indexer.collections.registry import OWNED_TABLES, ROW_TABLES
from indexer.counting import count_links, count_rows
from indexer.row_writes import remove_records
from storage.change_log import CHANGED, log_addresses
from storage.outbox import put_outbox
from storage.postgres.pool import Conn
from storage.postgres.transaction import whole_transaction
from storage.records import links
from storage.records.interning import Interner
from storage.records.record_codec import decompress
from storage.records.record_rows import PAGE_BYTES, read_stored
from storage.records.stats import StatsChange, apply_stats

_ROWS: Final = 2_000
_ROW_TABLES: Final = {table.name: table for table in ROW_TABLES}


def clear_repo(
    conn: Conn, interner: Interner, did: str, now: datetime, error: str
) -> int:
    """Remove every row of a repo and queue it for a whole fetch; return the number of
    records. Commits.

    Each transaction removes at most 2,000 records; after a crash the repo is fetched
    anyway. Ends with a scan of all links, the only way to find those without a record.
    The account's content is hidden until the fetch.
    """
    actor = interner.actors([did])[did]
    removed = 0
    while True:
        with whole_transaction(conn):
            conn.execute(
                """
                UPDATE repo SET state = 'desynchronized', rev = NULL, data = NULL,
                    commit = NULL, lease_until = NULL, tries = 0, next_try = now(),
                    error = %s
                WHERE actor = %s
                """,
                (error, actor),
            )
            page = _read_page(conn, actor)
            _remove(conn, interner, actor, page, now)
            removed += len(page)
            if not page:
                apply_stats(conn, _remove_strays(conn, actor))
                return removed


def _read_page(conn: Conn, actor: int) -> list[tuple[int, int, bytes | None]]:
    """Return the next records: (collection, rkey, bytes), None for damaged ones."""
    page: list[tuple[int, int, bytes | None]] = []
    size = 0
    for collection, rkey, stored in read_stored(conn, actor, rows=_ROWS):
        value = _read(stored)
        page.append((collection, rkey, value))
        size += len(value or b"")
        if size > PAGE_BYTES:
            break
    return page


def _remove(
    conn: Conn,
    interner: Interner,
    actor: int,
    page: Sequence[tuple[int, int, bytes | None]],
    now: datetime,
) -> None:
    put_outbox(conn, [(actor, collection, rkey) for collection, rkey, _ in page])
    remove_records(conn, interner, actor, page, now)
    conn.execute(
        """
        DELETE FROM record r
        USING unnest(%s::int4[], %s::int8[]) AS d (collection, rkey)
        WHERE r.actor = %s AND r.collection = d.collection AND r.rkey = d.rkey
        """,
        ([row[0] for row in page], [row[1] for row in page], actor),
    )
    log_addresses(conn, [(actor, *row[:2]) for row in page], CHANGED)


def _read(stored: bytes) -> bytes | None:
    try:
        return decompress(stored)
    except Exception:  # a damaged row may fail in any way
        return None


def _remove_strays(conn: Conn, actor: int) -> StatsChange:
    """Remove rows without a record; return the changes of counts."""
    stats = StatsChange()
    columns = ", ".join(links.LinkRow._fields)
    rows = conn.execute(
        f"DELETE FROM link WHERE actor = %s RETURNING {columns}", (actor,)
    )
    count_links(stats, map(links.LinkRow._make, rows.fetchall()), -1)
    for name in OWNED_TABLES:
        if name == "link":
            continue
        removed = conn.execute(f"DELETE FROM {name} WHERE actor = %s", (actor,))
        if name in _ROW_TABLES:
            count_rows(stats, _ROW_TABLES[name], [actor] * removed.rowcount, -1)
    return stats
