"""Ids of names and back: DIDs, collections, record keys, link paths.

Names are committed in their own transaction before an id is returned. An id is never of
a row that was rolled back, and writers of records hold no lock on names. Caches are
bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Final, Generic, TypeVar

from protocol.syntax.tid import Tid, is_tid, tid_from_int, tid_to_int
from storage.collections import COLLECTION_IDS, PATHS, RKEY_SELF
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn, Pool
from storage.records.edge_batch import tid_numbers

K = TypeVar("K")
V = TypeVar("V")

_DEFAULT_CACHE: Final = 500_000
_MOST_CACHED_CHARS: Final = 64
MAX_PATHS_A_COLLECTION: Final = 256
"""Maximum paths of a collection, whose records choose their own keys. Links beyond it
share OVERFLOW_PATH."""
OVERFLOW_PATH: Final = "*"
MAX_PATH_CHARS: Final = 256


class _Cache(Generic[K, V]):
    """A bounded map in two generations, cheaper than an LRU list.

    Entries not used in the last `size` insertions are dropped. Long names, which may
    have two thousand characters, are not cached.
    """

    def __init__(self, size: int) -> None:
        self._size = max(size, 2) // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        name = value if isinstance(value, str) else key
        if isinstance(name, str) and len(name) > _MOST_CACHED_CHARS:
            return
        if len(self._young) >= self._size:
            self._old = self._young
            self._young = {}
        self._young[key] = value


class Interner:
    """Get-or-create ids of names, safe to share between threads.

    Give it a pool of its own: its callers hold other connections, and could otherwise
    all wait for one more.
    """

    def __init__(self, pool: Pool, *, cache_size: int = _DEFAULT_CACHE) -> None:
        self._pool = pool
        self._actors: _Cache[str, int] = _Cache(cache_size)
        self._dids: _Cache[int, str] = _Cache(cache_size)
        self._rkeys: _Cache[str, int] = _Cache(max(cache_size // 8, 1024))
        self._rkey_texts: _Cache[int, str] = _Cache(max(cache_size // 8, 1024))
        self._collections: _Cache[str, int] = _Cache(65_536)
        self._nsids: _Cache[int, str] = _Cache(65_536)
        self._paths: _Cache[tuple[int, str], int] = _Cache(65_536)
        self._lock = Lock()

    def actors(self, dids: Iterable[str]) -> dict[str, int]:
        """Return DID -> actor id; creates missing rows."""
        return self._names(self._actors, dids, _INTERN_ACTORS)

    def collections(self, nsids: Iterable[str]) -> dict[str, int]:
        """Return NSID -> collection id; creates missing rows."""
        wanted = list(nsids)
        found = {n: COLLECTION_IDS[n] for n in wanted if n in COLLECTION_IDS}
        if len(found) < len(wanted):
            rest = [nsid for nsid in wanted if nsid not in found]
            found.update(self._names(self._collections, rest, _INTERN_COLLECTIONS))
        return found

    def rkeys(self, texts: Iterable[str]) -> dict[str, int]:
        """Return record key -> id: the number of a TID, else a negative id."""
        found: dict[str, int] = {}
        rest: list[str] = []
        others = wanted = list(texts)
        tids = [text for text in wanted if len(text) == _TID_CHARS]
        numbers = tid_numbers(tids)
        if numbers is not None:
            found.update(zip(tids, numbers, strict=True))
            others = [text for text in wanted if len(text) != _TID_CHARS]
        for text in others:
            number = rkey_number(text)
            if number is None:
                rest.append(text)
            else:
                found[text] = number
        if rest:
            found.update(self._names(self._rkeys, rest, _INTERN_RKEYS))
        return found

    def paths(self, keys: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """Return (collection id, path) -> path id, OVERFLOW_PATH's beyond the limit."""
        found: dict[tuple[int, str], int] = {}
        missing: set[tuple[int, str]] = set()
        with self._lock:
            for key in keys:
                number = _KNOWN_PATHS.get(key) or self._paths.get(key)
                if number is None:
                    missing.add(key)
                else:
                    found[key] = number
        if missing:
            made = self._make_paths(sorted(missing))
            with self._lock:
                for key, number in made.items():
                    self._paths.put(key, number)
            found.update(made)
        return found

    def dids(self, ids: Iterable[int]) -> dict[int, str]:
        """Return actor id -> DID, without unknown ids."""
        return self._texts(self._dids, ids, "SELECT id, did FROM actor")

    def nsids(self, ids: Iterable[int]) -> dict[int, str]:
        """Return collection id -> NSID, without unknown ids."""
        return self._texts(self._nsids, ids, "SELECT id, nsid FROM collection")

    def rkey_texts(self, ids: Iterable[int]) -> dict[int, str]:
        """Return record key id -> text, without unknown ids."""
        found: dict[int, str] = {}
        rest: list[int] = []
        for number in ids:
            if number > 0:
                found[number] = tid_from_int(number)
            else:
                rest.append(number)
        if rest:
            found.update(
                self._texts(self._rkey_texts, rest, "SELECT id, text FROM rkey")
            )
        return found

    def _names(
        self, cache: _Cache[str, int], names: Iterable[str], query: str
    ) -> dict[str, int]:
        found: dict[str, int] = {}
        missing: set[str] = set()
        with self._lock:
            get = cache.get
            for name in names:
                number = get(name)
                if number is None:
                    missing.add(name)
                else:
                    found[name] = number
        if missing:
            made = self._make(sorted(missing), query)
            with self._lock:
                for name, number in made.items():
                    cache.put(name, number)
            found.update(made)
        return found

    def _make(self, names: list[str], query: str) -> dict[str, int]:
        """Return ids of sorted names.

        Reads before it inserts: a conflicting INSERT would burn an id, and ids are 32
        bits.
        """
        table, column = query.split(".")
        with self._pool.connection() as conn:
            look = f"SELECT {column}, id FROM {table} WHERE {column} = ANY(%s)"
            found: dict[str, int] = dict(conn.execute(look, (names,)).fetchall())
            missing = [name for name in names if name not in found]
            if missing:
                conn.execute(
                    f"INSERT INTO {table} ({column}) SELECT unnest(%s::text[]) "
                    "ON CONFLICT DO NOTHING",
                    (missing,),
                )
                # Rows that the INSERT waited for are only visible to a new statement.
                found.update(conn.execute(look, (missing,)).fetchall())
        return found

    def _make_paths(self, keys: list[tuple[int, str]]) -> dict[tuple[int, str], int]:
        found: dict[tuple[int, str], int] = {}
        with self._pool.connection() as conn:
            for collection, path in keys:
                number = _make_path(conn, collection, path)
                found[collection, path] = number
        return found

    def _texts(
        self, cache: _Cache[int, str], ids: Iterable[int], query: str
    ) -> dict[int, str]:
        found: dict[int, str] = {}
        missing: set[int] = set()
        with self._lock:
            get = cache.get
            for number in ids:
                text = get(number)
                if text is None:
                    missing.add(number)
                else:
                    found[number] = text
        if missing:
            with self._pool.connection() as conn:
                rows = conn.execute(
                    f"{query} WHERE id = ANY(%s)", (sorted(missing),)
                ).fetchall()
            with self._lock:
                for number, text in rows:
                    cache.put(number, text)
            found.update(rows)
        return found


def rkey_number(text: str) -> int | None:
    """Return the id of a record key that needs no row: a TID, or `self`."""
    if is_tid(text):
        # The TID 0 would mean "no record key"; TIDs over 63 bits are valid syntax.
        number = tid_to_int(Tid(text))
        return number if 0 < number <= _MAX_TID else None
    return RKEY_SELF if text == "self" else None


_MAX_TID: Final = 2**63 - 1
_TID_CHARS: Final = 13
_INTERN_ACTORS: Final = "actor.did"
_INTERN_COLLECTIONS: Final = "collection.nsid"
_INTERN_RKEYS: Final = "rkey.text"

_KNOWN_PATHS: Final = {
    (COLLECTION_IDS[nsid], path): number for number, (nsid, path) in PATHS.items()
}


def _make_path(conn: Conn, collection: int, path: str) -> int:
    look = "SELECT id FROM path WHERE collection = %s AND path = %s"
    row = conn.execute(look, (collection, path)).fetchone()
    if row is not None:
        return int(row[0])
    count = conn.execute(
        "SELECT count(*) FROM path WHERE collection = %s", (collection,)
    ).fetchone()
    if len(path) > MAX_PATH_CHARS or (count and count[0] >= MAX_PATHS_A_COLLECTION):
        path = OVERFLOW_PATH
    conn.execute(
        "INSERT INTO path (collection, path) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (collection, path),
    )
    return fetch_int(conn, look, (collection, path))
