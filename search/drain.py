"""The drain of the outbox: documents from current rows into a search engine.

An entry names a changed record or account. Documents are made of the rows at the time
of the drain, so entries may be late, repeated or out of order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from protocol.data.cbor import decode_fast
from protocol.errors import InvalidRecordError
from protocol.syntax import tid_from_int, tid_time_us
from search.documents import ActorDocument, Document, RecordDocument, RecordText
from search.engines.contract import SearchEngine
from search.text.languages import detect_language
from search.topics import note_topics
from storage.collections import ACTOR_PROFILE, COLLECTION_IDS, FEED_POST, NO_COLLECTION
from storage.outbox import Cause, delete_outbox, take_outbox
from storage.postgres.arrays import int_columns
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.instants import from_micros
from storage.postgres.pool import Conn
from storage.postgres.text import MAX_DOCUMENT_CHARS, MAX_NAME_CHARS, clean_text
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records.addresses import Address, find_addresses, name_addresses_in
from storage.records.listing import fetch_listed
from storage.records.record_rows import fetch_pieces
from storage.records.stats import PostStats, fetch_post_stats, fetch_subject_likes
from storage.records.web_urls import MAX_DOMAIN_CHARS, domain_of
from storage.states import STATUS_ACTIVE

PROFILE: Final = COLLECTION_IDS[ACTOR_PROFILE]
_POST: Final = COLLECTION_IDS[FEED_POST]
_MAX_FILTER_CHARS: Final = 2_048
"""Maximum length of a tag, a URL or a mention."""
MAX_QUOTED_CHARS: Final = 1_000
_NO_STATS: Final = PostStats()
FETCHED_AGE: Final = timedelta(days=1)
"""Records of a fetched repo up to this age are matched with saved searches."""
_LOCK: Final = 0x6F7574626F78  # "outbox": one drain at a time


LogMatches = Callable[[Conn, Sequence[RecordDocument]], None]
"""Logs the saved searches that find records, in the transaction of the drain."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The searchable parts of records, read by the package that knows collections."""

    read: Callable[[str, Mapping[str, Any]], RecordText | None]
    """Text of a record of a collection (NSID), None if it is not searched. Raises
    InvalidRecordError."""
    read_time: Callable[[Mapping[str, Any]], datetime | None]
    """The `createdAt` of a record, None if it has none."""
    unsearched: tuple[int, ...]
    """Collections without text."""
    prepare: Callable[[Conn, Collection[str]], None] = lambda conn, nsids: None
    """Called before records of these collections are read."""


@dataclass(frozen=True, slots=True)
class _Account:
    document: ActorDocument
    shown: bool


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

    `log_matches` gets the new and changed records, in the transaction that removes
    their entries. When the engine fails, the entries stay. Returns 0 while another
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
        crashpoint(Crashpoint.OUTBOX_CLEARED)
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
        crashpoint(Crashpoint.OUTBOX_CLEARED)
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


def _read_work(conn: Conn, texts: Texts, limit: int) -> _Work | None:
    entries = take_outbox(conn, limit)
    if not entries:
        return None
    crashpoint(Crashpoint.OUTBOX_TAKEN)
    addresses = {address for _, address, _ in entries}
    accounts = _load_accounts(conn, {address.actor for address in addresses})
    whole = {a.actor for a in addresses if a.collection == NO_COLLECTION}
    about = whole | {a.actor for a in addresses if a.collection == PROFILE}
    gone = {a for a in about if a not in accounts or not accounts[a].shown}
    records = {a for a in addresses if a.collection not in (NO_COLLECTION, PROFILE)}
    documents = _load_documents(conn, texts, records, accounts)
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
    if log_matches is not None and (new := _choose_new(work.entries, work.records)):
        log_matches(conn, new)
    crashpoint(Crashpoint.OUTBOX_MATCHED)
    delete_outbox(conn, [number for number, _, _ in work.entries])


def load_shown(
    conn: Conn, texts: Texts, actors: Collection[int], records: Collection[Address]
) -> list[Document]:
    """Return the documents of shown accounts, and of records of shown accounts."""
    accounts = _load_accounts(conn, {*actors, *(record.actor for record in records)})
    return [
        *_load_documents(conn, texts, records, accounts),
        *(accounts[a].document for a in actors if a in accounts and accounts[a].shown),
    ]


def _choose_new(
    entries: Sequence[tuple[int, Address, str]], documents: Sequence[RecordDocument]
) -> list[RecordDocument]:
    """Return documents of new and changed records, in order of their entries.

    Of a fetched repo these are the recent ones: its older records are not new.
    """
    by_address = {document.address: document for document in documents}
    after = datetime.now(UTC) - FETCHED_AGE
    new: dict[Address, RecordDocument] = {}
    for _, address, cause in entries:
        document = by_address.get(address)
        if document is not None and (
            cause == Cause.WRITTEN
            or (cause == Cause.FETCHED and document.created_at > after)
        ):
            new[address] = document
    return [*new.values()]


def read_document(
    conn: Conn, texts: Texts, address: Address
) -> tuple[RecordDocument | None, bool]:
    """Return the document of a record as the drain makes it, and True if its account
    may be shown."""
    accounts = _load_accounts(conn, {address.actor})
    account = accounts.get(address.actor)
    found = _load_documents(conn, texts, [address], accounts)
    return (found[0] if found else None), account is not None and account.shown


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


def _load_accounts(conn: Conn, actors: Collection[int]) -> dict[int, _Account]:
    rows = conn.execute(
        """
        SELECT a.id, a.did, a.handle, p.display_name, p.description, p.created_at,
               coalesce(s.followers, 0), coalesce(s.follows, 0), coalesce(s.posts, 0),
               a.takedown IS NULL AND a.upstream_status = %s
                   AND EXISTS (SELECT FROM repo r WHERE r.actor = a.id)
        FROM actor a
        LEFT JOIN profile p ON p.actor = a.id
        LEFT JOIN actor_stats s ON s.actor = a.id
        WHERE a.id = ANY(%s)
        """,
        (STATUS_ACTIVE, sorted(actors)),
    )
    return {
        number: _Account(
            ActorDocument(number, did, handle, name or "", description or "", *counts),
            shown,
        )
        for number, did, handle, name, description, *counts, shown in rows
    }


def _load_documents(
    conn: Conn,
    texts: Texts,
    addresses: Collection[Address],
    accounts: dict[int, _Account],
) -> list[RecordDocument]:
    shown = [
        a
        for a in addresses
        if a.collection not in texts.unsearched
        and a.actor in accounts
        and accounts[a.actor].shown
    ]
    documents: list[RecordDocument] = []
    for _, values in fetch_pieces(conn, shown):
        documents += _read_documents(conn, texts, values, accounts)
    return documents


def _read_documents(
    conn: Conn,
    texts: Texts,
    values: Mapping[Address, bytes],
    accounts: dict[int, _Account],
) -> Iterator[RecordDocument]:
    uris = name_addresses_in(conn, values)
    texts.prepare(conn, {uri.split("/")[3] for uri in uris.values()})
    failed = _load_failures(conn, values)
    posts = [a for a in values if a.collection == _POST]
    times = _load_post_times(conn, posts)
    counts = fetch_post_stats(conn, [(a.actor, a.rkey) for a in posts])
    stats = {Address(a, _POST, key): found for (a, key), found in counts.items()}
    others = [a for a in values if a.collection != _POST]
    likes = fetch_subject_likes(conn, others)
    listed = fetch_listed(conn, others)
    stats |= {Address(*key): PostStats(likes=found) for key, found in likes.items()}
    documents: list[RecordDocument] = []
    for address, value in values.items():
        if address in failed or address not in uris:
            continue
        document = _make_document(
            texts,
            address,
            value,
            uris[address],
            accounts[address.actor].document,
            times.get(address),
            listed.get(address),
            stats.get(address, _NO_STATS),
        )
        if document is not None:
            documents.append(document)
    quoted = _load_quoted(conn, texts, {u for d in documents for u in d.quotes})
    for document in documents:
        if found := [quoted[uri] for uri in document.quotes if uri in quoted]:
            document = replace(document, quoted="\n".join(found))
        yield document


def _load_quoted(conn: Conn, texts: Texts, uris: Collection[str]) -> dict[str, str]:
    """Return the start of the texts of quoted records of shown accounts."""
    if not uris:
        return {}
    addresses = find_addresses(conn, uris)
    accounts = _load_accounts(conn, {a.actor for a in addresses.values()})
    shown = {
        address: uri
        for uri, address in addresses.items()
        if address.actor in accounts and accounts[address.actor].shown
    }
    found: dict[str, str] = {}
    for _, values in fetch_pieces(conn, sorted(shown)):
        for address, block in values.items():
            uri = shown[address]
            text = _read_text(texts, uri.split("/")[3], decode_fast(block))
            if text is not None:
                whole = f"{text.title}\n{text.text}".strip()
                found[uri] = clean_text(whole, MAX_QUOTED_CHARS)
    return found


def _make_document(
    texts: Texts,
    address: Address,
    block: bytes,
    uri: str,
    author: ActorDocument,
    times: tuple[datetime, datetime] | None,
    indexed_at: datetime | None,
    stats: PostStats,
) -> RecordDocument | None:
    _, _, _, nsid, rkey = uri.split("/")
    value = decode_fast(block)
    text = _read_text(texts, nsid, value)
    if text is None:
        return None
    if times is None:
        if address.collection == _POST:
            return None
        indexed_at = indexed_at or datetime.now(UTC)
        claimed = text.created_at or texts.read_time(value)
        claimed = claimed or _key_time(address.rkey) or indexed_at
        times = claimed, min(claimed, indexed_at)
    return RecordDocument(
        address=address,
        uri=uri,
        collection=nsid,
        rkey=rkey,
        did=author.did,
        handle=author.handle,
        title=clean_text(text.title, MAX_NAME_CHARS),
        text=clean_text(text.text, MAX_DOCUMENT_CHARS),
        langs=_clean(text.langs),
        tags=_clean(text.tags),
        mentions=_clean(text.mentions),
        domains=tuple(
            dict.fromkeys(
                clean_text(d, MAX_DOMAIN_CHARS)
                for u in text.urls
                if (d := domain_of(u))
            )
        ),
        urls=_clean(text.urls),
        features=text.features,
        quotes=text.quotes,
        reply_parent=text.reply_parent,
        reply_root=text.reply_root,
        created_at=times[0],
        sort_at=times[1],
        likes=stats.likes,
        reposts=stats.reposts,
        replies=stats.replies,
        quote_count=stats.quotes,
        alt=clean_text(text.alt, MAX_DOCUMENT_CHARS),
        card=clean_text(text.card, MAX_DOCUMENT_CHARS),
        detected=detect_language(f"{text.title}\n{text.text}", text.langs),
    )


def _read_text(texts: Texts, nsid: str, value: Any) -> RecordText | None:
    try:
        return texts.read(nsid, value) if isinstance(value, dict) else None
    except InvalidRecordError:
        return None


def _clean(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(clean_text(text, _MAX_FILTER_CHARS) for text in texts)


def _key_time(rkey: int) -> datetime | None:
    """Return the time in a TID; None for any other record key."""
    return from_micros(tid_time_us(tid_from_int(rkey))) if rkey > 0 else None


def _load_failures(conn: Conn, addresses: Collection[Address]) -> set[Address]:
    rows = conn.execute(
        """
        SELECT e.actor, e.collection, e.rkey
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN index_error e ON e.actor = x.a AND e.collection = x.c AND e.rkey = x.k
        """,
        int_columns([*addresses], 3),
    )
    return {Address(*row) for row in rows}


def _load_post_times(
    conn: Conn, posts: Sequence[Address]
) -> dict[Address, tuple[datetime, datetime]]:
    rows = conn.execute(
        """
        SELECT p.actor, p.rkey, p.created_at, p.sort_at
        FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
        JOIN post p ON p.actor = x.a AND p.rkey = x.k
        """,
        int_columns([(a.actor, a.rkey) for a in posts], 2),
    )
    return {
        Address(actor, _POST, rkey): (created, sort_at)
        for actor, rkey, created, sort_at in rows
    }
