"""Rows of an export, read from one snapshot of the index in bounded pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import pyarrow as pa

from export.columns import Ints, constant, record_keys
from export.layout import ACTORS, LABELS, STATS, TOMBSTONES
from export.record_tables import StoredRecords
from export.shown_accounts import Account
from protocol.data.cid import cid_to_text
from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    NO_COLLECTION,
    NO_RKEY,
)
from storage.postgres.arrays import int_array, int_columns
from storage.postgres.pool import Conn
from storage.records.addresses import Address, name_addresses_in, name_rkeys
from storage.records.record_rows import fetch_large

Addresses = Sequence[tuple[int, int, int]]

StoredRow = tuple[int, int, int, bytes]

PIECE_ROWS: Final = 20_000
_PIECE_BYTES: Final = 16 * 1024**2
_FETCH_ROWS: Final = 4_000
_PROFILE: Final = COLLECTION_IDS[ACTOR_PROFILE]
_POST: Final = COLLECTION_IDS[FEED_POST]
_EDGES: Final = frozenset(
    COLLECTION_IDS[nsid] for nsid in (FEED_LIKE, FEED_REPOST, GRAPH_FOLLOW, GRAPH_BLOCK)
)
_SMALL: Final = "CASE WHEN octet_length(r.value) <= 16384 THEN r.value END"
_WHOLE: Final = f"""
    SELECT r.actor, r.collection, r.rkey, {_SMALL}
    FROM record r WHERE r.actor = ANY(%s::int4[])
"""
_FETCH: Final = f"""
    SELECT r.actor, r.collection, r.rkey, {_SMALL}
    FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS a (actor, collection, rkey)
    JOIN record r ON r.actor = a.actor AND r.collection = a.collection
      AND r.rkey = a.rkey
"""
_BROKEN: Final = """
    SELECT actor, collection, rkey FROM index_error WHERE actor = ANY(%s::int4[])
"""


class Snapshot:
    """A read-only connection at one moment, and the names it has seen."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self._nsids: dict[int, str] = {NO_COLLECTION: ""}

    def whole(self, accounts: Sequence[Account]) -> Iterator[StoredRecords]:
        """Yield all records of these accounts."""
        dids = {account.actor: account.did for account in accounts}
        broken = self._broken(dids)
        with self.conn.cursor(name="whole_accounts", binary=True) as cursor:
            cursor.execute(_WHOLE, (int_array(dids),))
            for rows in self._pieces(_ahead(lambda: cursor.fetchmany(_FETCH_ROWS))):
                yield self._records(rows, dids, broken)

    def fetch(
        self, addresses: Addresses, accounts: dict[int, Account]
    ) -> Iterator[StoredRecords]:
        """Yield those of these records that exist."""
        dids = {address[0]: accounts[address[0]].did for address in addresses}
        broken = self._broken(dids)
        for start in range(0, len(addresses), _FETCH_ROWS):
            asked = addresses[start : start + _FETCH_ROWS]
            found = self.conn.execute(_FETCH, int_columns(asked, 3), binary=True)
            for rows in self._pieces(found):
                yield self._records(rows, dids, broken)

    def _pieces(self, rows: Iterable[Any]) -> Iterator[list[StoredRow]]:
        """Yield complete rows, bounded in number and in bytes."""
        piece: list[StoredRow] = []
        size = 0
        for actor, collection, rkey, value in rows:
            if value is None:
                value = fetch_large(self.conn, actor, collection, rkey)
            piece.append((actor, collection, rkey, value))
            size += len(value)
            if len(piece) >= PIECE_ROWS or size > _PIECE_BYTES:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece

    def _broken(self, actors: Iterable[int]) -> frozenset[tuple[int, int, int]]:
        rows = self.conn.execute(_BROKEN, (int_array(actors),))
        return frozenset(rows.fetchall())

    def _records(
        self,
        rows: Sequence[StoredRow],
        dids: dict[int, str],
        broken: frozenset[tuple[int, int, int]],
    ) -> StoredRecords:
        actors, collections, rkeys, stored = zip(*rows, strict=True)
        keys = np.array(rkeys, np.int64)
        return StoredRecords(
            np.array(actors, np.int32),
            np.array(collections, np.int32),
            keys,
            stored,
            dids,
            self.name_collections(set(collections)),
            self.name_keys(keys),
            broken,
        )

    def name_collections(self, numbers: set[int]) -> dict[int, str]:
        """Return the NSIDs of collections."""
        missing = numbers - self._nsids.keys()
        if missing:
            rows = self.conn.execute(
                "SELECT id, nsid FROM collection WHERE id = ANY(%s)", (sorted(missing),)
            )
            self._nsids.update(rows.fetchall())
        return self._nsids

    def name_keys(self, keys: Ints) -> dict[int, str]:
        """Return the texts of record keys that are no TIDs."""
        negative = keys[keys < 0]
        names = name_rkeys(self.conn, negative.tolist()) if len(negative) else {}
        return {NO_RKEY: "", **names}

    def actors(self, accounts: Sequence[Account], seq: int) -> Any:
        """Return rows of the table actors."""
        rows = self.conn.execute(
            "SELECT actor, display_name, description FROM profile"
            " WHERE actor = ANY(%s::int4[])",
            (int_array(account.actor for account in accounts),),
        )
        profiles = {row[0]: row[1:] for row in rows}
        nothing = (None, None)
        return _table(
            ACTORS,
            [
                (a.did, a.handle, *profiles.get(a.actor, nothing), a.indexed_at)
                for a in accounts
            ],
            seq,
        )

    def account_counts(self, accounts: Sequence[Account], seq: int) -> Any:
        """Return rows of the table stats, for accounts."""
        rows = self.conn.execute(
            "SELECT actor, followers, follows, posts FROM actor_stats"
            " WHERE actor = ANY(%s::int4[])",
            (int_array(account.actor for account in accounts),),
        )
        dids = {account.actor: account.did for account in accounts}
        none = (None,) * 4
        return _table(
            STATS,
            [(dids[row[0]], "", "", *none, *row[1:]) for row in rows],
            seq,
        )

    def record_counts(self, records: StoredRecords, seq: int) -> Any:
        """Return rows of the table stats, for records that have counts."""
        posts = np.flatnonzero(records.collections == _POST)
        others = np.flatnonzero(
            (records.collections != _POST) & ~np.isin(records.collections, [*_EDGES])
        )
        found: list[tuple[tuple[int, int, int], tuple[int | None, ...]]] = []
        none = (None,) * 3
        if len(posts):
            rows = self.conn.execute(
                """
                SELECT s.actor, s.rkey, likes, reposts, replies, quotes
                FROM unnest(%s::int4[], %s::int8[]) AS p (actor, rkey)
                JOIN post_stats s ON s.rkey = p.rkey AND s.actor = p.actor
                """,
                (
                    int_array(records.actors[posts].tolist()),
                    int_array(records.keys[posts].tolist()),
                ),
            )
            found += [((a, _POST, k), (*counts, *none)) for a, k, *counts in rows]
        if len(others):
            rows = self.conn.execute(
                """
                SELECT s.actor, s.collection, s.rkey, likes
                FROM unnest(%s::int4[], %s::int4[], %s::int8[])
                    AS p (actor, collection, rkey)
                JOIN subject_stats s ON s.actor = p.actor
                  AND s.collection = p.collection AND s.rkey = p.rkey
                """,
                (
                    int_array(records.actors[others].tolist()),
                    int_array(records.collections[others].tolist()),
                    int_array(records.keys[others].tolist()),
                ),
            )
            found += [((a, c, k), (n, *none, *none)) for a, c, k, n in rows]
        names = self._name([address for address, _ in found], records.dids)
        return _table(
            STATS,
            [(*name, *counts) for name, (_, counts) in zip(names, found, strict=True)],
            seq,
        )

    def labels(
        self,
        subjects: Sequence[int] | Addresses,
        accounts: dict[int, Account],
        seq: int,
    ) -> Any:
        """Return rows of the table labels: about these records, or all of accounts."""
        columns = "l.actor, l.collection, l.rkey, a.did, val, cid, neg, cts, exp"
        if subjects and isinstance(subjects[0], int):
            query = "WHERE l.actor = ANY(%s::int4[])"
            values: Sequence[str] = (int_array(subjects),)  # type: ignore[arg-type]
        else:
            query = """JOIN unnest(%s::int4[], %s::int4[], %s::int8[])
                AS d (actor, collection, rkey) ON d.actor = l.actor
                AND d.collection = l.collection AND d.rkey = l.rkey"""
            values = int_columns(subjects, 3)  # type: ignore[arg-type]
        rows = self.conn.execute(
            f"SELECT {columns} FROM label l JOIN actor a ON a.id = l.src {query}",
            values,
        ).fetchall()
        uris = name_addresses_in(
            self.conn, {Address(*row[:3]) for row in rows if row[1]}
        )
        found = []
        for actor, collection, rkey, src, val, cid, *rest in rows:
            did = accounts[actor].did
            uri = uris.get(Address(actor, collection, rkey)) if collection else did
            if uri is not None:
                text = cid_to_text(bytes(cid)) if cid else ""
                found.append((did, uri, src, val, text, *rest))
        return _table(LABELS, found, seq)

    def tombstones(
        self, addresses: Addresses, accounts: dict[int, Account], seq: int
    ) -> Any:
        """Return tombstones of records."""
        dids = {address[0]: accounts[address[0]].did for address in addresses}
        return _table(TOMBSTONES, self._name(addresses, dids), seq)

    def _name(
        self, addresses: Addresses, dids: dict[int, str] | Any
    ) -> list[tuple[str, str, str]]:
        nsids = self.name_collections({address[1] for address in addresses})
        numbers = np.array([address[2] for address in addresses], np.int64)
        keys = record_keys(numbers, self.name_keys(numbers)).to_pylist()
        return [
            (dids[address[0]], nsids[address[1]], key)
            for address, key in zip(addresses, keys, strict=True)
        ]


def _ahead(fetch: Callable[[], list[Any]]) -> Iterator[Any]:
    """Yield all rows; the next batch is fetched while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as thread:
        waiting = thread.submit(fetch)
        while rows := waiting.result():
            waiting = thread.submit(fetch)
            yield from rows


def account_tombstones(dids: Sequence[str], seq: int) -> Any:
    """Return tombstones of accounts with all their rows."""
    return _table(TOMBSTONES, [(did, None, None) for did in dids], seq)


def _table(table: Any, rows: Sequence[tuple[Any, ...]], seq: int) -> Any:
    """Return rows as an Arrow table, with the number of their increment."""
    kinds = list(table.schema)[1:]
    columns = zip(*rows, strict=True) if rows else ((),) * len(kinds)
    found = {"seq": constant(seq, len(rows))}
    for kind, values in zip(kinds, columns, strict=True):
        found[kind.name] = pa.array(values, kind.type)
    return pa.table(found, schema=table.schema)
