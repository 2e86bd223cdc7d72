"""A mutable Merkle search tree (specs/repository).

Nodes are read when needed and written when the root is requested.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from protocol.data.cid import cid_for
from protocol.errors import LimitExceededError, MissingBlockError
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_HEIGHT, MAX_TREE_KEY_BYTES
from protocol.mst.node import EMPTY_NODE, EMPTY_ROOT, GetBlock, encode_node, height
from protocol.mst.walk import ROOT_PLACE, Place, open_node


class _Node:
    """A node in memory; all its keys lie between `low` and `high`, exclusive.

    `children` are nodes, CIDs of unread nodes, or None. `raw` and `cid` are None after
    a change; `fresh` marks a node that is not stored yet.
    """

    __slots__ = (
        "children",
        "cid",
        "fresh",
        "high",
        "keys",
        "level",
        "low",
        "raw",
        "values",
    )

    def __init__(
        self,
        level: int,
        keys: list[bytes],
        values: list[bytes],
        children: list[_Node | bytes | None],
        low: bytes,
        high: bytes | None,
    ) -> None:
        self.level = level
        self.keys = keys
        self.values = values
        self.children = children
        self.low = low
        self.high = high
        self.cid: bytes | None = None
        self.raw: bytes | None = None
        self.fresh = True

    def bounds(self, index: int) -> tuple[bytes, bytes | None]:
        """Return the keys around the child at `index`."""
        keys = self.keys
        return (
            keys[index - 1] if index else self.low,
            keys[index] if index < len(keys) else self.high,
        )

    def change(self) -> None:
        self.cid = None
        self.raw = None
        self.fresh = True


class Tree:
    """The tree under `root` (None or the empty root for a new one); not thread-safe.

    `get_block` returns the bytes of a node by its CID, or None. Every method raises
    MissingBlockError for a missing node, InvalidTreeError for a node that is malformed
    or in a wrong place.
    """

    def __init__(self, get_block: GetBlock, root: bytes | None = None) -> None:
        self._get_block = get_block
        self._stored = root
        self._root: _Node | None = None
        if root is not None and root != EMPTY_ROOT:
            self._root = self._load(root, ROOT_PLACE)

    def get(self, key: bytes) -> bytes | None:
        """Return the CID under `key`, or None; reads no node below the key's level."""
        level = height(key)
        for node, index, found in self._way(key):
            if found:
                return node.values[index]
            if node.level <= level:
                return None
        return None

    def put(self, key: bytes, cid: bytes) -> bytes | None:
        """Set `key` to `cid`; return the previous CID, or None.

        Raises LimitExceededError for a key that is empty, longer than 1,024 bytes or
        mined.
        """
        if not 0 < len(key) <= MAX_TREE_KEY_BYTES:
            raise LimitExceededError("tree key is empty or too long")
        level = height(key)
        if level > MAX_TREE_HEIGHT:
            raise LimitExceededError("tree is too high")
        previous = self.get(key)
        if previous is not None:
            self._update(key, cid)
        elif self._root is None:
            self._root = _Node(level, [key], [cid], [None, None], b"", None)
        elif level > self._root.level:
            left, right = self._split(self._root, key)
            below = self._root.level
            self._root = _Node(
                level,
                [key],
                [cid],
                [_lift(left, below, level - 1), _lift(right, below, level - 1)],
                b"",
                None,
            )
        else:
            self._insert(self._root, key, cid, level)
        return previous

    def delete(self, key: bytes) -> bytes | None:
        """Remove `key`; return its CID, or None if it was absent."""
        previous = self.get(key)
        if previous is None or self._root is None:
            return None
        root: _Node | None = self._root
        self._remove(self._root, key)
        # Remove nodes without entries at the top.
        while root is not None and not root.keys:
            root = self._child(root, 0)
        self._root = root
        return previous

    def root(self) -> bytes:
        return EMPTY_ROOT if self._root is None else self._write(self._root)

    def new_blocks(self) -> dict[bytes, bytes]:
        """Return the nodes that are not stored yet, by CID, root first."""
        root = self.root()
        if root == self._stored:
            return {}
        if self._root is None:
            return {root: EMPTY_NODE}
        blocks: dict[bytes, bytes] = {}
        for node in _fresh_nodes(self._root):
            _add(node, blocks)
        return blocks

    def settle(self) -> None:
        """Mark all nodes as stored."""
        self._stored = self.root()
        if self._root is not None:
            for node in _fresh_nodes(self._root):
                node.fresh = False

    def proof_blocks(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the covering proof of `keys`, by CID, root first.

        It holds the root, and the nodes on the way to each key, present or not, and to
        its neighbours. A reader needs them to undo a change of that key (specs/sync).
        """
        root = self.root()
        if self._root is None:
            return {root: EMPTY_NODE}
        blocks: dict[bytes, bytes] = {}
        _add(self._root, blocks)
        for key in keys:
            for node, index, found in self._way(key):
                _add(node, blocks)
                if found:
                    for edge in self._edge(self._child(node, index), -1):
                        _add(edge, blocks)
                    for edge in self._edge(self._child(node, index + 1), 0):
                        _add(edge, blocks)
        return blocks

    def check_neighbours(self, key: bytes) -> bool:
        """Check the available nodes between a key of the tree and its neighbours.

        Return False if some are missing; raise InvalidTreeError if their keys are on
        the wrong side.
        """
        for node, index, found in self._way(key):
            if found:
                before = self._check_edge(node, index, -1)
                after = self._check_edge(node, index + 1, 0)
                return before and after
        return True

    def _check_edge(self, node: _Node, index: int, side: int) -> bool:
        try:
            for _ in self._edge(self._child(node, index), side):
                pass
        except MissingBlockError:
            return False
        return True

    def _load(self, cid: bytes, place: Place) -> _Node:
        raw = self._get_block(cid)
        if raw is None:
            raise MissingBlockError("tree node is missing")
        (level, low, high), (keys, values, links) = open_node(raw, place)
        node = _Node(level, keys, values, [*links], low, high)
        node.cid = cid
        node.raw = raw
        node.fresh = False
        return node

    def _child(self, node: _Node, index: int) -> _Node | None:
        child = node.children[index]
        if isinstance(child, bytes):
            child = self._load(child, Place(node.level - 1, *node.bounds(index)))
            node.children[index] = child
        return child

    def _way(self, key: bytes) -> Iterator[tuple[_Node, int, bool]]:
        """Yield each node down to a key, the key's index, and True if found there."""
        node = self._root
        while node is not None:
            index = bisect_left(node.keys, key)
            found = index < len(node.keys) and node.keys[index] == key
            yield node, index, found
            node = None if found else self._child(node, index)

    def _update(self, key: bytes, cid: bytes) -> None:
        for node, index, found in self._way(key):
            node.change()
            if found:
                node.values[index] = cid

    def _insert(self, node: _Node, key: bytes, cid: bytes, level: int) -> None:
        node.change()
        index = bisect_left(node.keys, key)
        child = self._child(node, index)
        if level == node.level:
            left, right = (None, None) if child is None else self._split(child, key)
            node.keys.insert(index, key)
            node.values.insert(index, cid)
            node.children[index : index + 1] = [left, right]
        elif child is None:
            leaf = _Node(level, [key], [cid], [None, None], *node.bounds(index))
            node.children[index] = _lift(leaf, level, node.level - 1)
        else:
            self._insert(child, key, cid, level)

    def _split(self, node: _Node, key: bytes) -> tuple[_Node | None, _Node | None]:
        """Return the parts of a tree before and after a key that it does not hold."""
        index = bisect_left(node.keys, key)
        child = self._child(node, index)
        left, right = (None, None) if child is None else self._split(child, key)
        # A side that receives everything is the unchanged node.
        if index == len(node.keys) and right is None:
            return node, None
        if index == 0 and left is None:
            return None, node
        before = _Node(
            node.level,
            node.keys[:index],
            node.values[:index],
            [*node.children[:index], left],
            node.low,
            key,
        )
        after = _Node(
            node.level,
            node.keys[index:],
            node.values[index:],
            [right, *node.children[index + 1 :]],
            key,
            node.high,
        )
        return before, after

    def _join(
        self, left: _Node, left_index: int, right: _Node, right_index: int
    ) -> _Node | bytes | None:
        """Return one tree of two adjacent children of one level."""
        before = left.children[left_index]
        after = right.children[right_index]
        # A tree without a neighbour moves unread.
        if before is None or after is None:
            return before or after
        first = self._child(left, left_index)
        second = self._child(right, right_index)
        assert first is not None
        assert second is not None
        middle = self._join(first, len(first.keys), second, 0)
        return _Node(
            first.level,
            first.keys + second.keys,
            first.values + second.values,
            [*first.children[:-1], middle, *second.children[1:]],
            first.low,
            second.high,
        )

    def _remove(self, node: _Node, key: bytes) -> None:
        node.change()
        index = bisect_left(node.keys, key)
        if index < len(node.keys) and node.keys[index] == key:
            joined = self._join(node, index, node, index + 1)
            del node.keys[index], node.values[index]
            node.children[index : index + 2] = [joined]
            return
        child = self._child(node, index)
        if child is not None:
            self._remove(child, key)
            if not child.keys and child.children[0] is None:
                node.children[index] = None

    def _write(self, node: _Node) -> bytes:
        if node.cid is None:
            if len(node.keys) > MAX_NODE_ENTRIES:
                raise LimitExceededError("tree node has too many entries")
            links = [
                self._write(child) if isinstance(child, _Node) else child
                for child in node.children
            ]
            node.raw = encode_node(node.keys, node.values, links)
            node.cid = cid_for(node.raw)
        return node.cid

    def _edge(self, node: _Node | None, side: int) -> Iterator[_Node]:
        """Yield the nodes down one edge of a tree: 0 is the left one, -1 the right."""
        while node is not None:
            yield node
            node = self._child(node, 0 if side == 0 else len(node.keys))


def _lift(node: _Node | None, level: int, target: int) -> _Node | None:
    """Put empty nodes above a node, up to level `target`."""
    if node is not None:
        for above in range(level + 1, target + 1):
            node = _Node(above, [], [], [node], node.low, node.high)
    return node


def _fresh_nodes(node: _Node) -> Iterator[_Node]:
    yield node
    for child in node.children:
        if isinstance(child, _Node) and child.fresh:
            yield from _fresh_nodes(child)


def _add(node: _Node, blocks: dict[bytes, bytes]) -> None:
    if node.cid is not None and node.raw is not None:
        blocks[node.cid] = node.raw
