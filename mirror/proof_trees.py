"""Trees of repos that were proven from lately, so that the next proof is a walk.

A tree is known by its root, which says all of it: what is remembered cannot be stale
or of somebody else. Bounded by bytes; the tree of a huge repo is not kept at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final

from cachetools import LRUCache

from network.errors import XrpcError
from protocol.errors import MissingBlockError
from protocol.mst import build_nodes, parse_node

_MOST_BYTES: Final = 64 * 1024**2
_MOST_BYTES_EACH: Final = 16 * 1024**2
_WAIT_S: Final = 1.0

Nodes = dict[bytes, bytes]
Items = Iterable[tuple[bytes, bytes]]


class ProofTrees:
    """Safe to share between threads."""

    def __init__(
        self, most: int = _MOST_BYTES, most_each: int = _MOST_BYTES_EACH
    ) -> None:
        self._most_each = most_each
        self._trees: LRUCache[bytes, Nodes] = LRUCache(most, _size)
        self._lock = Lock()
        self._building = Lock()

    def prove(
        self, root: bytes, key: bytes, items: Callable[[], Items]
    ) -> list[tuple[bytes, bytes]]:
        """The nodes from a root down to a key, or to where it would be: (CID, block).

        `items` reads the (key, CID) of all records in order; it is called when the
        tree is not known. Raises MissingBlockError when they do not make that tree,
        XrpcError 503 while others are being made.
        """
        nodes = self._known(root)
        if nodes is None:
            # The tree of a huge repo takes a core for seconds: one is made at a time.
            if not self._building.acquire(timeout=_WAIT_S):
                raise XrpcError(
                    "ServiceUnavailable", "busy with proofs", 503, {"Retry-After": "2"}
                )
            try:
                nodes = self._known(root) or self._build(root, items())
            finally:
                self._building.release()
        path: list[tuple[bytes, bytes]] = []
        cid: bytes | None = root
        while cid is not None:
            raw = nodes[cid]
            path.append((cid, raw))
            keys, _, links = parse_node(raw)
            place = bisect_left(keys, key)
            if place < len(keys) and keys[place] == key:
                break
            cid = links[place]
        return path

    def _known(self, root: bytes) -> Nodes | None:
        with self._lock:
            return self._trees.get(root)

    def _build(self, root: bytes, items: Items) -> Nodes:
        nodes = {node.cid: node.raw for node in build_nodes(items)}
        if root not in nodes:
            raise MissingBlockError("the records are not those that the commit signs")
        if _size(nodes) <= self._most_each:
            with self._lock:
                self._trees[root] = nodes
        return nodes


def _size(nodes: Nodes) -> int:
    return sum(len(cid) + len(raw) for cid, raw in nodes.items())
