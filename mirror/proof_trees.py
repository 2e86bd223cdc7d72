"""Cache of the trees of recently proven repos, bounded by bytes.

The key is the root, which commits to the whole tree: an entry cannot be stale. Trees of
huge repos are not kept.
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

_MAX_BYTES: Final = 64 * 1024**2
_MAX_TREE_BYTES: Final = 16 * 1024**2
_WAIT_S: Final = 1.0

Nodes = dict[bytes, bytes]
Items = Iterable[tuple[bytes, bytes]]


class ProofTrees:
    """The cache, shared between threads."""

    def __init__(
        self, max_bytes: int = _MAX_BYTES, max_tree: int = _MAX_TREE_BYTES
    ) -> None:
        self._max_tree = max_tree
        self._trees: LRUCache[bytes, Nodes] = LRUCache(max_bytes, _size)
        self._lock = Lock()
        self._build_lock = Lock()

    def prove(
        self, root: bytes, key: bytes, items: Callable[[], Items]
    ) -> list[tuple[bytes, bytes]]:
        """Return the nodes (CID, block) from a root to a key, or to its place.

        `items` reads the (key, CID) of all records in order, if the tree is not cached.
        Raises MissingBlockError if they do not make that tree, XrpcError 503 if busy.
        """
        nodes = self.nodes(root, items)
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

    def nodes(self, root: bytes, items: Callable[[], Items]) -> Nodes:
        """Return all nodes of a tree by CID. Raises as `prove` does."""
        nodes = self._known(root)
        if nodes is not None:
            return nodes
        # The tree of a huge repo takes seconds of CPU: one is built at a time.
        if not self._build_lock.acquire(timeout=_WAIT_S):
            raise XrpcError(
                "ServiceUnavailable",
                "too many proofs at once",
                503,
                {"Retry-After": "2"},
            )
        try:
            return self._known(root) or self._build(root, items())
        finally:
            self._build_lock.release()

    def _known(self, root: bytes) -> Nodes | None:
        with self._lock:
            return self._trees.get(root)

    def _build(self, root: bytes, items: Items) -> Nodes:
        nodes = {node.cid: node.raw for node in build_nodes(items)}
        if root not in nodes:
            raise MissingBlockError("the records are not those that the commit signs")
        if _size(nodes) <= self._max_tree:
            with self._lock:
                self._trees[root] = nodes
        return nodes


def _size(nodes: Nodes) -> int:
    return sum(len(cid) + len(raw) for cid, raw in nodes.items())
