"""Documents of accounts and records, made of the rows of the index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from protocol.data.cbor import decode_fast
from protocol.errors import InvalidRecordError
from protocol.syntax import tid_from_int, tid_time_us
from search.documents import ActorDocument, Document, RecordDocument, RecordText
from search.text.languages import detect_language
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.arrays import int_columns
from storage.postgres.instants import from_micros
from storage.postgres.pool import Conn
from storage.postgres.text import MAX_DOCUMENT_CHARS, MAX_NAME_CHARS, clean_text
from storage.records.addresses import Address, find_addresses, name_addresses_in
from storage.records.listing import fetch_listed
from storage.records.record_rows import fetch_pieces
from storage.records.stats import PostStats, fetch_post_stats, fetch_subject_likes
from storage.records.web_urls import MAX_DOMAIN_CHARS, domain_of
from storage.states import STATUS_ACTIVE

_POST: Final = COLLECTION_IDS[FEED_POST]
_MAX_FILTER_CHARS: Final = 2_048
"""Maximum length of a tag, a URL or a mention."""
MAX_QUOTED_CHARS: Final = 1_000
_NO_STATS: Final = PostStats()


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
class ShownAccount:
    """An account as a document, and True if it may be shown."""

    document: ActorDocument
    shown: bool


def load_shown(
    conn: Conn, texts: Texts, actors: Collection[int], records: Collection[Address]
) -> list[Document]:
    """Return the documents of shown accounts, and of records of shown accounts."""
    accounts = load_accounts(conn, {*actors, *(record.actor for record in records)})
    return [
        *load_documents(conn, texts, records, accounts),
        *(accounts[a].document for a in actors if a in accounts and accounts[a].shown),
    ]


def read_document(
    conn: Conn, texts: Texts, address: Address
) -> tuple[RecordDocument | None, bool]:
    """Return the document of a record as the drain makes it, and True if its account
    may be shown."""
    accounts = load_accounts(conn, {address.actor})
    account = accounts.get(address.actor)
    found = load_documents(conn, texts, [address], accounts)
    return (found[0] if found else None), account is not None and account.shown


def load_accounts(conn: Conn, actors: Collection[int]) -> dict[int, ShownAccount]:
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
        number: ShownAccount(
            ActorDocument(number, did, handle, name or "", description or "", *counts),
            shown,
        )
        for number, did, handle, name, description, *counts, shown in rows
    }


def load_documents(
    conn: Conn,
    texts: Texts,
    addresses: Collection[Address],
    accounts: dict[int, ShownAccount],
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
    accounts: dict[int, ShownAccount],
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
    accounts = load_accounts(conn, {a.actor for a in addresses.values()})
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
