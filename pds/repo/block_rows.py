"""Block rows of a repo: reading by CID, with a cache of tree nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from cachetools import LRUCache

from storage.postgres.pool import Conn

_CACHE_BYTES = 32 * 1024 * 1024
# Blocks have up to a mebibyte.
_FETCH_ROWS = 64


class NodeCache:
    """A cache of tree nodes by CID, for all repos of this process.

    A CID fixes its bytes, so an entry is never stale. A tree is walked from its own
    repo's root, so an entry never leads into another repo.
    """

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._nodes: LRUCache[bytes, bytes] = LRUCache(max_bytes, len)
        self._lock = threading.Lock()

    def get(self, cid: bytes) -> bytes | None:
        with self._lock:
            return self._nodes.get(cid)

    def put(self, cid: bytes, node: bytes) -> None:
        # A node that is larger than the cache is not kept.
        with self._lock, suppress(ValueError):
            self._nodes[cid] = node


class BlockReader:
    """The blocks of one repo inside one transaction; records which nodes were read."""

    def __init__(self, conn: Conn, account: int, cache: NodeCache) -> None:
        self._conn = conn
        self._account = account
        self._cache = cache
        self.nodes: dict[bytes, bytes] = {}

    def get_node(self, cid: bytes) -> bytes | None:
        """Return the tree node with that CID, or None."""
        node = self.nodes.get(cid) or self._cache.get(cid)
        if node is None:
            node = find_block(self._conn, self._account, cid)
            if node is None:
                return None
            self._cache.put(cid, node)
        self.nodes[cid] = node
        return node


def find_block(conn: Conn, account: int, cid: bytes) -> bytes | None:
    row = conn.execute(
        "SELECT value FROM block WHERE account = %s AND cid = %s", [account, cid]
    ).fetchone()
    return None if row is None else bytes(row[0])


def find_blocks(conn: Conn, account: int, cids: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return those of the blocks that the repo has."""
    return dict(
        conn.execute(
            "SELECT cid, value FROM block WHERE account = %s AND cid = ANY(%b)",
            [account, list(cids)],
        ).fetchall()
    )


def insert_blocks(
    conn: Conn, account: int, rev: str, blocks: dict[bytes, bytes]
) -> None:
    """Insert blocks; existing ones keep their rev."""
    conn.execute(
        "INSERT INTO block (account, cid, rev, value)"
        " SELECT %s, cid, %s, value FROM unnest(%b::bytea[], %b::bytea[])"
        " AS new (cid, value) ON CONFLICT DO NOTHING",
        [account, rev, list(blocks), list(blocks.values())],
    )


def delete_blocks(conn: Conn, account: int, cids: Sequence[bytes]) -> None:
    conn.execute(
        "DELETE FROM block WHERE account = %s AND cid = ANY(%b)", [account, list(cids)]
    )


def stream_blocks_since(
    conn: Conn, account: int, rev: str
) -> Iterator[tuple[bytes, bytes]]:
    """Yield every block after `rev`, unordered, through a server-side cursor."""
    with conn.cursor(name="blocks_since") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(
            "SELECT cid, value FROM block WHERE account = %s AND rev > %s",
            [account, rev],
        )
        yield from cursor


def stream_records(conn: Conn, account: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (key, CID, value) of every record, in the order of the tree."""
    with conn.cursor(name="all_records") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(
            "SELECT r.path, r.cid, b.value FROM record r"
            " JOIN block b ON b.account = r.account AND b.cid = r.cid"
            " WHERE r.account = %s ORDER BY r.path",
            [account],
        )
        for path, cid, value in cursor:
            yield path.encode("ascii"), cid, value
