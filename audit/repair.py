"""Making room for a repo that must be fetched anew, because our rows of it are wrong.

A fetch compares with what is held, and rows that follow from records are changed with
their record. Where a row was lost or changed behind our back that is not enough:
everything that came out of the repo goes, and the next fetch is as the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from indexer.changes import Change
from indexer.collections.registry import OWNED_TABLES, ROW_TABLES
from indexer.counting import count_links, count_rows
from indexer.row_writes import apply_changes
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
    conn: Conn,
    interner: Interner,
    did: str,
    now: datetime,
    error: str,
) -> int:
    """Remove every row that came out of a repo, and queue the repo to be fetched
    whole; return how many records went. Commits.

    In transactions of 2,000 records at most: a kill leaves a repo that is fetched
    anyway. Ends with a look through the whole table of links, since a link that no
    record accounts for is found in no other way. What is shown of the account is gone
    until it is fetched.
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
    """The next records: (collection, rkey, bytes), None for one that is damaged."""
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
    nsids = interner.nsids({collection for collection, _, _ in page})
    changes = [
        Change(actor, collection, rkey, nsids[collection], value, None)
        for collection, rkey, value in page
        if value is not None
    ]
    put_outbox(conn, [(actor, collection, rkey) for collection, rkey, _ in page])
    apply_stats(conn, apply_changes(conn, interner, changes, now))
    conn.execute(
        """
        DELETE FROM record r
        USING unnest(%s::int4[], %s::int8[]) AS d (collection, rkey)
        WHERE r.actor = %s AND r.collection = d.collection AND r.rkey = d.rkey
        """,
        ([row[0] for row in page], [row[1] for row in page], actor),
    )


def _read(stored: bytes) -> bytes | None:
    try:
        return decompress(stored)
    except Exception:  # a damaged row may fail in any way; what is left of it goes
        return None


def _remove_strays(conn: Conn, actor: int) -> StatsChange:
    """Remove what no record accounted for; return what is to be taken from counts."""
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
