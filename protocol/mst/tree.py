"""A Merkle search tree that can be changed (specs/repository).

Nodes are read when they are first needed, and written when the root is asked for. A
tree is for one writer at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from protocol.data.cid import cid_for
from protocol.errors import (
    InvalidTreeError,
    LimitExceededError,
    MissingBlockError,
)
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_HEIGHT, MAX_TREE_KEY_BYTES
from protocol.mst.node import (
    EMPTY_NODE,
    EMPTY_ROOT,
    check_level,
    encode_node,
    height,
    node_level,
    parse_node,
)

GetBlock = Callable[[bytes], bytes | None]


class _Node:
    """One node in memory; all its keys lie between `low` and `high`, exclusive.

    `children` are nodes, CIDs of nodes not read yet, or None. `raw` and `cid` are
    None from a change until the next writing; `fresh` tells a node made here.
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

    def change(self) -> None:
        self.cid = None
        self.raw = None
        self.fresh = True


class Tree:
    """The tree under `root` (None or the empty root for a new one).

    `get_block` gives the bytes of a node by its CID, or None. Every method raises
    MissingBlockError where a node it needs is not there, and InvalidTreeError where
    one is not a node or stands in the wrong place.
    """

    def __init__(self, get_block: GetBlock, root: bytes | None = None) -> None:
        self._get_block = get_block
        self._stored = root
        self._root: _Node | None = None
        if root is not None and root != EMPTY_ROOT:
            self._root = self._load(root, None, b"", None)

    def get(self, key: bytes) -> bytes | None:
        """Return the CID under `key`, or None.

        Read no further than the level of the key: below it the key cannot stand.
        """
        level = height(key)
        node = self._root
        while node is not None and node.level >= level:
            index = bisect_left(node.keys, key)
            if index < len(node.keys) and node.keys[index] == key:
                return node.values[index]
            if node.level == level:
                return None
            node = self._child(node, index)
        return None

    def put(self, key: bytes, cid: bytes) -> bytes | None:
        """Set `key` to `cid`; returns the CID that stood there, or None.

        Raises LimitExceededError for a key that is empty or longer than 1,024 bytes,
        or that only mining could have found.
        """
        if not 0 < len(key) <= MAX_TREE_KEY_BYTES:
            raise LimitExceededError("a key of the tree is empty or too long")
        level = height(key)
        if level > MAX_TREE_HEIGHT:
            raise LimitExceededError("the tree is too high")
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
        """Remove `key`; returns the CID that stood there, or None if none did."""
        previous = self.get(key)
        if previous is None or self._root is None:
            return None
        root: _Node | None = self._root
        self._remove(self._root, key)
        # What is left at the top without entries only points downwards.
        while root is not None and not root.keys:
            root = self._child(root, 0)
        self._root = root
        return previous

    def root(self) -> bytes:
        """The CID of the root node."""
        return EMPTY_ROOT if self._root is None else self._write(self._root)

    def new_blocks(self) -> dict[bytes, bytes]:
        """The nodes of the present tree that were made here, by CID, root first."""
        root = self.root()
        if root == self._stored:
            return {}
        if self._root is None:
            return {root: EMPTY_NODE}
        blocks: dict[bytes, bytes] = {}
        self._collect(self._root, blocks)
        return blocks

    def settle(self) -> None:
        """Forget which nodes are new: they have been stored."""
        self._stored = self.root()
        if self._root is not None:
            self._settle(self._root)

    def proof_blocks(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The covering proof of `keys` in the present tree, by CID, root first.

        For each key these are the nodes on the way to it, whether or not it is
        there, and those on the way to its neighbours: what a reader needs to take
        back a change of that key (specs/sync). Always holds the root.
        """
        root = self.root()
        if self._root is None:
            return {root: EMPTY_NODE}
        blocks: dict[bytes, bytes] = {}
        _add(self._root, blocks)
        for key in keys:
            node: _Node | None = self._root
            while node is not None:
                _add(node, blocks)
                index = bisect_left(node.keys, key)
                if index < len(node.keys) and node.keys[index] == key:
                    for edge in self._edge(self._child(node, index), -1):
                        _add(edge, blocks)
                    for edge in self._edge(self._child(node, index + 1), 0):
                        _add(edge, blocks)
                    break
                node = self._child(node, index)
        return blocks

    def check_neighbours(self, key: bytes) -> bool:
        """Read the nodes at hand between a key of the tree and the keys next to it.

        Reading a node in its place checks it: raises InvalidTreeError unless all of
        them hold keys on the right side of this one. Return False if some are not at
        hand.
        """
        node = self._root
        while node is not None:
            index = bisect_left(node.keys, key)
            if index < len(node.keys) and node.keys[index] == key:
                before = self._check_edge(node, index, -1)
                behind = self._check_edge(node, index + 1, 0)
                return before and behind
            node = self._child(node, index)
        return True

    def _check_edge(self, node: _Node, index: int, side: int) -> bool:
        try:
            for _ in self._edge(self._child(node, index), side):
                pass
        except MissingBlockError:
            return False
        return True

    def _load(
        self, cid: bytes, level: int | None, low: bytes, high: bytes | None
    ) -> _Node:
        raw = self._get_block(cid)
        if raw is None:
            raise MissingBlockError("a node of the tree is missing")
        keys, values, links = parse_node(raw)
        if level is None:
            level = node_level(keys, links)
        check_level(keys, links, level)
        if keys and (keys[0] <= low or (high is not None and keys[-1] >= high)):
            raise InvalidTreeError("keys of the tree are not in order")
        node = _Node(level, keys, values, [*links], low, high)
        node.cid = cid
        node.raw = raw
        node.fresh = False
        return node

    def _child(self, node: _Node, index: int) -> _Node | None:
        child = node.children[index]
        if isinstance(child, bytes):
            low = node.keys[index - 1] if index else node.low
            high = node.keys[index] if index < len(node.keys) else node.high
            child = self._load(child, node.level - 1, low, high)
            node.children[index] = child
        return child

    def _update(self, key: bytes, cid: bytes) -> None:
        node = self._root
        while node is not None:
            node.change()
            index = bisect_left(node.keys, key)
            if index < len(node.keys) and node.keys[index] == key:
                node.values[index] = cid
                return
            node = self._child(node, index)

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
            low = node.keys[index - 1] if index else node.low
            high = node.keys[index] if index < len(node.keys) else node.high
            leaf = _Node(level, [key], [cid], [None, None], low, high)
            node.children[index] = _lift(leaf, level, node.level - 1)
        else:
            self._insert(child, key, cid, level)

    def _split(self, node: _Node, key: bytes) -> tuple[_Node | None, _Node | None]:
        """The parts of a tree before and behind a key that is not in it."""
        index = bisect_left(node.keys, key)
        child = self._child(node, index)
        left, right = (None, None) if child is None else self._split(child, key)
        # A side that takes everything is the node itself, still unchanged.
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
        behind = _Node(
            node.level,
            node.keys[index:],
            node.values[index:],
            [right, *node.children[index + 1 :]],
            key,
            node.high,
        )
        return before, behind

    def _join(
        self, left: _Node, left_index: int, right: _Node, right_index: int
    ) -> _Node | bytes | None:
        """One tree of two children of one level that have become neighbours."""
        before = left.children[left_index]
        behind = right.children[right_index]
        # A tree without a neighbour moves as it is, and need not be read.
        if before is None or behind is None:
            return before or behind
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
                raise LimitExceededError("too many entries in a node of the tree")
            links = [
                self._write(child) if isinstance(child, _Node) else child
                for child in node.children
            ]
            node.raw = encode_node(node.keys, node.values, links)
            node.cid = cid_for(node.raw)
        return node.cid

    def _collect(self, node: _Node, blocks: dict[bytes, bytes]) -> None:
        _add(node, blocks)
        for child in node.children:
            if isinstance(child, _Node) and child.fresh:
                self._collect(child, blocks)

    def _settle(self, node: _Node) -> None:
        node.fresh = False
        for child in node.children:
            if isinstance(child, _Node) and child.fresh:
                self._settle(child)

    def _edge(self, node: _Node | None, side: int) -> Iterator[_Node]:
        """The nodes down one edge of a tree: 0 is the left one, -1 the right."""
        while node is not None:
            yield node
            node = self._child(node, 0 if side == 0 else len(node.keys))


def _lift(node: _Node | None, level: int, target: int) -> _Node | None:
    """Put nodes without entries above a node, so that it can stand at `target`."""
    if node is not None:
        for above in range(level + 1, target + 1):
            node = _Node(above, [], [], [node], node.low, node.high)
    return node


def _add(node: _Node, blocks: dict[bytes, bytes]) -> None:
    if node.cid is not None and node.raw is not None:
        blocks[node.cid] = node.raw
