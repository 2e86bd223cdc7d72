"""The drain of the outbox: documents from current rows into a search engine.

An entry names a changed record or account. Documents are made of the rows at the time
of the drain, so entries may be late, repeated or out of order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from search.documents import ActorDocument, RecordDocument
from search.engines.contract import SearchEngine
from search.matches.match_pass import DrainedRecords, LogMatches
from search.matches.new_records import choose_new
from search.record_documents import Texts, load_accounts, load_documents
from search.topics import note_topics
from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_POST,
    NO_COLLECTION,
)
from storage.outbox import Cause, delete_outbox, take_outbox
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records.addresses import Address
from storage.records.distant_replies import settle_distant_replies

PROFILE: Final = COLLECTION_IDS[ACTOR_PROFILE]
_POST: Final = COLLECTION_IDS[FEED_POST]
_LOCK: Final = 0x6F7574626F78  # "outbox": one drain at a time


@dataclass(frozen=True, slots=True)
class _Work:
    """Entries of the outbox, and what an engine does about them."""

    entries: list[tuple[int, Address, str]]
    records: list[RecordDocument]
    accounts: list[ActorDocument]
    deleted: list[Address]
    gone: list[int]
    """Accounts that leave with all their records."""
    returned: set[int]
    """Accounts whose records are read anew."""


def drain_outbox(
    conn: Conn,
    engine: SearchEngine,
    texts: Texts,
    limit: int,
    log_matches: LogMatches | None = None,
) -> int:
    """Write up to `limit` entries to the engine, remove them and return their number.

    `log_matches` gets the drained records, in the transaction that removes their
    entries. When the engine fails, the entries stay. Returns 0 while another
    drain runs, since the slower of two could write an old document last.
    """
    if engine.external:
        return _drain_outside(conn, engine, texts, limit, log_matches)
    return _drain_inside(conn, engine, texts, limit, log_matches)


@retry_conflicts
def _drain_inside(
    conn: Conn,
    engine: SearchEngine,
    texts: Texts,
    limit: int,
    log_matches: LogMatches | None,
) -> int:
    with whole_transaction(conn):
        lock = conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()
        if lock != (True,):
            return 0
        work = _read_work(conn, texts, limit)
        if work is None:
            return 0
        _tell(conn, engine, work)
        _finish(conn, texts, work, log_matches)
    return len(work.entries)


def _drain_outside(
    conn: Conn,
    engine: SearchEngine,
    texts: Texts,
    limit: int,
    log_matches: LogMatches | None,
) -> int:
    """Drain without a transaction while the engine is written.

    After a crash in between the entries are written again, as newer rows are.
    """
    with outbox_lock(conn) as held:
        if not held:
            return 0
        with whole_transaction(conn):
            work = _read_work(conn, texts, limit)
        if work is None:
            return 0
        _tell(None, engine, work)
        with whole_transaction(conn):
            _finish(conn, texts, work, log_matches)
    return len(work.entries)


@contextmanager
def outbox_lock(conn: Conn) -> Iterator[bool]:
    """Hold the lock of the drain outside of transactions; False if another has it."""
    with whole_transaction(conn):
        row = conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    held = row == (True,)
    try:
        yield held
    finally:
        # A broken connection has lost the lock already.
        if held and not conn.broken:
            conn.rollback()
            with whole_transaction(conn):
                conn.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def wait_for_drain(conn: Conn) -> None:
    """Wait until the batch that is drained now is finished."""
    with whole_transaction(conn):
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def _read_work(conn: Conn, texts: Texts, limit: int) -> _Work | None:
    entries = take_outbox(conn, limit)
    if not entries:
        return None
    crashpoint(Crashpoint.OUTBOX_TAKEN)
    addresses = {address for _, address, _ in entries}
    accounts = load_accounts(conn, {address.actor for address in addresses})
    whole = {a.actor for a in addresses if a.collection == NO_COLLECTION}
    about = whole | {a.actor for a in addresses if a.collection == PROFILE}
    gone = {a for a in about if a not in accounts or not accounts[a].shown}
    records = {a for a in addresses if a.collection not in (NO_COLLECTION, PROFILE)}
    documents = load_documents(conn, texts, records, accounts)
    found = {document.address for document in documents}
    return _Work(
        entries=entries,
        records=documents,
        accounts=[accounts[a].document for a in sorted(about - gone)],
        deleted=sorted(records - found),
        gone=sorted(gone),
        # A hidden account lost all its documents; one that returns is read anew.
        returned=whole - gone,
    )


def _tell(conn: Conn | None, engine: SearchEngine, work: _Work) -> None:
    engine.delete(conn, work.deleted, work.gone)
    engine.put(conn, [*work.records, *work.accounts])
    crashpoint(Crashpoint.OUTBOX_TOLD)


def _finish(
    conn: Conn, texts: Texts, work: _Work, log_matches: LogMatches | None
) -> None:
    queue_records(conn, texts, work.returned)
    note_topics(conn, work.records, datetime.now(UTC))
    # A document that is only made again changes no thread.
    posts = {
        (post.actor, post.rkey)
        for _, post, cause in work.entries
        if post.collection == _POST and cause != Cause.INDEXED
    }
    settle_distant_replies(conn, posts)
    if log_matches is not None:
        new = choose_new(work.entries, work.records)
        log_matches(conn, DrainedRecords(work.records, new, work.deleted, work.gone))
    crashpoint(Crashpoint.OUTBOX_MATCHED)
    delete_outbox(conn, [number for number, _, _ in work.entries])
    crashpoint(Crashpoint.OUTBOX_CLEARED)


def queue_records(conn: Conn, texts: Texts, actors: Collection[int]) -> None:
    """Queue every record of these accounts that has text. Does not commit."""
    if actors:
        conn.execute(
            """
            INSERT INTO search_outbox (actor, collection, rkey)
            SELECT actor, collection, rkey FROM record
            WHERE actor = ANY(%s) AND collection <> ALL(%s)
            """,
            (sorted(actors), [*texts.unsearched, PROFILE]),
        )


def queue_everything(conn: Conn, engine: SearchEngine) -> None:
    """Empty the engine and queue every account with all its records. Commits."""
    with whole_transaction(conn):
        # Saved searches still wait for new records.
        conn.execute("DELETE FROM search_outbox WHERE op = %s", (Cause.INDEXED,))
        engine.clear(conn)
        conn.execute(
            """
            INSERT INTO search_outbox (actor, collection, rkey)
            SELECT actor, 0, 0 FROM repo ORDER BY actor
            """
        )
