"""What changed from one tree to another, without reading what they share."""

from __future__ import annotations

from collections.abc import Iterator

from protocol.mst.invert import TreeOp
from protocol.mst.tree import GetBlock
from protocol.mst.walk import ROOT_PLACE, Place, PlacedNode, child_place, load_node


def diff(get_block: GetBlock, old: bytes, new: bytes) -> Iterator[TreeOp]:
    """The operations that lead from the tree `old` to `new`, in the order of the keys.

    `get_block` has the nodes of both. Raises MissingBlockError, InvalidTreeError or
    LimitExceededError.
    """
    before = _Cursor(get_block, old)
    behind = _Cursor(get_block, new)
    while True:
        left, right = before.node, behind.node
        if left is not None and right is not None:
            if left[0] == right[0]:
                before.skip()
                behind.skip()
            elif before.level() >= behind.level():
                before.open()
            else:
                behind.open()
        elif left is not None:
            before.open()
        elif right is not None:
            behind.open()
        else:
            gone, come = before.record, behind.record
            if gone is None and come is None:
                return
            if come is None or (gone is not None and gone[1] < come[1]):
                assert gone is not None
                yield TreeOp(gone[1], None, gone[0])
                before.skip()
            elif gone is None or come[1] < gone[1]:
                yield TreeOp(come[1], come[0], None)
                behind.skip()
            else:
                if come[0] != gone[0]:
                    yield TreeOp(come[1], come[0], gone[0])
                before.skip()
                behind.skip()


class _Cursor:
    """A place in a tree: before a node not opened yet, before a record, or the end."""

    def __init__(self, get_block: GetBlock, root: bytes) -> None:
        self._get_block = get_block
        self._stack: list[tuple[bytes, Place] | tuple[bytes, bytes]] = [
            (root, ROOT_PLACE)
        ]
        self._loaded: PlacedNode | None = None

    @property
    def node(self) -> tuple[bytes, Place] | None:
        """The CID and the place of the next node, if that is what comes next."""
        if self._stack:
            cid, item = self._stack[-1]
            if not isinstance(item, bytes):
                return cid, item
        return None

    @property
    def record(self) -> tuple[bytes, bytes] | None:
        """The CID and the key of the next record, if that is what comes next."""
        if self._stack:
            cid, item = self._stack[-1]
            if isinstance(item, bytes):
                return cid, item
        return None

    def level(self) -> int:
        """The level of the next node."""
        return self._load().place.level

    def skip(self) -> None:
        self._stack.pop()
        self._loaded = None

    def open(self) -> None:
        """Step into the next node."""
        node = self._load()
        self.skip()
        keys, values, links = node.content
        for index in range(len(keys), -1, -1):
            link = links[index]
            if link is not None:
                self._stack.append((link, child_place(node, index)))
            if index:
                self._stack.append((values[index - 1], keys[index - 1]))

    def _load(self) -> PlacedNode:
        if self._loaded is None:
            place = self.node
            assert place is not None
            self._loaded = load_node(self._get_block, *place)
        return self._loaded
