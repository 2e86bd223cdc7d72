"""The outbox -> documents made of current rows -> a search engine.

An entry says only that something changed. What the engine is told is read from the rows
of now, so entries may be late, doubled or out of order, and an engine that was wiped is
filled again by queueing everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import psycopg

from indexer.collections.registry import COLLECTIONS, collection_for
from indexer.collections.source import RecordText, optional_time
from indexer.transaction import retry_conflicts, whole_transaction
from protocol.data.cbor import decode_fast
from protocol.errors import InvalidRecordError
from protocol.syntax import tid_from_int, tid_time_us
from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_POST,
    NO_COLLECTION,
)
from storage.outbox import delete_outbox, take_outbox
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.text import MAX_DOCUMENT_CHARS, MAX_NAME_CHARS, clean_text
from storage.records.addresses import name_addresses_in
from storage.records.documents import (
    ActorDocument,
    Address,
    Document,
    RecordDocument,
)
from storage.records.record_rows import fetch_pieces
from storage.records.stats import PostStats, fetch_post_stats, fetch_subject_likes
from storage.records.web_urls import MAX_DOMAIN_CHARS, domain_of
from storage.states import STATUS_ACTIVE

_PROFILE: Final = COLLECTION_IDS[ACTOR_PROFILE]
_POST: Final = COLLECTION_IDS[FEED_POST]
_UNSEARCHED: Final = tuple(
    sorted(COLLECTION_IDS[n] for n, m in COLLECTIONS.items() if not m.SEARCHABLE)
)
_MAX_FILTER_CHARS: Final = 2_048
"""Tags, addresses and the like, each."""
_NO_STATS: Final = PostStats()
_LOCK: Final = 0x6F7574626F78  # "outbox": one drain at a time


class SearchEngine(Protocol):
    """The part of a search engine that is written to (see search.engines.contract)."""

    def put(self, conn: Any, documents: Sequence[Document]) -> None: ...

    def delete(
        self, conn: Any, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None: ...

    def clear(self, conn: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class _Account:
    document: ActorDocument
    shown: bool


@retry_conflicts
def drain_outbox(
    conn: psycopg.Connection[Any], engine: SearchEngine, limit: int
) -> int:
    """Tell the engine of up to `limit` entries and remove them; returns how many.

    One transaction, which an engine inside Postgres shares: when the engine fails, the
    entries stay. 0 also when another drain runs: of two at once, the one that read
    first could write last, and leave an old document behind.
    """
    with whole_transaction(conn):
        lock = conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()
        if lock != (True,):
            return 0
        entries = take_outbox(conn, limit)
        if not entries:
            return 0
        crashpoint(Crashpoint.OUTBOX_TAKEN)
        addresses = {address for _, address in entries}
        accounts = _load_accounts(conn, {address.actor for address in addresses})
        whole = {a.actor for a in addresses if a.collection == NO_COLLECTION}
        about = whole | {a.actor for a in addresses if a.collection == _PROFILE}
        gone = {a for a in about if a not in accounts or not accounts[a].shown}
        # What comes back was removed whole, so all of it must be read again.
        queue_records(conn, whole - gone)
        records = {
            a for a in addresses if a.collection not in (NO_COLLECTION, _PROFILE)
        }
        documents = _load_documents(conn, records, accounts)
        found = {document.address for document in documents}
        engine.delete(conn, sorted(records - found), sorted(gone))
        engine.put(
            conn, [*documents, *(accounts[a].document for a in sorted(about - gone))]
        )
        crashpoint(Crashpoint.OUTBOX_TOLD)
        delete_outbox(conn, [number for number, _ in entries])
        crashpoint(Crashpoint.OUTBOX_CLEARED)
        return len(entries)


def queue_records(conn: psycopg.Connection[Any], actors: Collection[int]) -> None:
    """Queue every record of these accounts that has text. Does not commit."""
    if actors:
        conn.execute(
            """
            INSERT INTO search_outbox (actor, collection, rkey)
            SELECT actor, collection, rkey FROM record
            WHERE actor = ANY(%s) AND collection <> ALL(%s)
            """,
            (sorted(actors), [*_UNSEARCHED, _PROFILE]),
        )


def queue_everything(conn: psycopg.Connection[Any], engine: SearchEngine) -> None:
    """Empty the engine and queue every account with all its records. Commits."""
    with whole_transaction(conn):
        conn.execute("TRUNCATE search_outbox")
        engine.clear(conn)
        conn.execute(
            """
            INSERT INTO search_outbox (actor, collection, rkey)
            SELECT actor, 0, 0 FROM repo ORDER BY actor
            """
        )


def _load_accounts(
    conn: psycopg.Connection[Any], actors: Collection[int]
) -> dict[int, _Account]:
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
    conn: psycopg.Connection[Any],
    addresses: Collection[Address],
    accounts: dict[int, _Account],
) -> list[RecordDocument]:
    shown = [
        a
        for a in addresses
        if a.collection not in _UNSEARCHED
        and a.actor in accounts
        and accounts[a.actor].shown
    ]
    documents: list[RecordDocument] = []
    for _, values in fetch_pieces(conn, shown):
        documents += _read_documents(conn, values, accounts)
    return documents


def _read_documents(
    conn: psycopg.Connection[Any],
    values: Mapping[Address, bytes],
    accounts: dict[int, _Account],
) -> Iterator[RecordDocument]:
    uris = name_addresses_in(conn, values)
    failed = _load_failures(conn, values)
    times = _load_post_times(conn, [a for a in values if a.collection == _POST])
    stats = fetch_post_stats(
        conn, [(a.actor, a.rkey) for a in values if a.collection == _POST]
    )
    likes = fetch_subject_likes(conn, [a for a in values if a.collection != _POST])
    for address, value in values.items():
        if address in failed or address not in uris:
            continue
        document = _make_document(
            address,
            value,
            uris[address],
            accounts[address.actor].document,
            times.get(address),
            stats.get((address.actor, address.rkey), _NO_STATS)
            if address.collection == _POST
            else PostStats(likes=likes.get(address, 0)),
        )
        if document is not None:
            yield document


def _make_document(
    address: Address,
    block: bytes,
    uri: str,
    author: ActorDocument,
    times: tuple[datetime, datetime] | None,
    stats: PostStats,
) -> RecordDocument | None:
    value = decode_fast(block)
    if not isinstance(value, dict):
        return None
    _, _, _, nsid, rkey = uri.split("/")
    try:
        text: RecordText = collection_for(nsid).to_text(value)
    except InvalidRecordError:
        return None
    if times is None:
        if address.collection == _POST:
            return None
        claimed = optional_time(value) or _key_time(address.rkey)
        times = claimed, min(claimed, datetime.now(UTC))
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
    )


def _clean(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(clean_text(text, _MAX_FILTER_CHARS) for text in texts)


def _key_time(rkey: int) -> datetime:
    """The time in a TID; 1970 for a record that tells no time at all."""
    micros = tid_time_us(tid_from_int(rkey)) if rkey > 0 else 0
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def _load_failures(
    conn: psycopg.Connection[Any], addresses: Collection[Address]
) -> set[Address]:
    rows = conn.execute(
        """
        SELECT e.actor, e.collection, e.rkey
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN index_error e ON e.actor = x.a AND e.collection = x.c AND e.rkey = x.k
        """,
        (
            [a.actor for a in addresses],
            [a.collection for a in addresses],
            [a.rkey for a in addresses],
        ),
    )
    return {Address(*row) for row in rows}


def _load_post_times(
    conn: psycopg.Connection[Any], posts: Sequence[Address]
) -> dict[Address, tuple[datetime, datetime]]:
    rows = conn.execute(
        """
        SELECT p.actor, p.rkey, p.created_at, p.sort_at
        FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
        JOIN post p ON p.actor = x.a AND p.rkey = x.k
        """,
        ([a.actor for a in posts], [a.rkey for a in posts]),
    )
    return {
        Address(actor, _POST, rkey): (created, sort_at)
        for actor, rkey, created, sort_at in rows
    }
