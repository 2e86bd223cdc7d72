"""Bottom-up construction of trees from sorted records (specs/repository)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError, LimitExceededError
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_HEIGHT, MAX_TREE_KEY_BYTES
from protocol.mst.node import EMPTY_NODE, EMPTY_ROOT, NodeContent, encode_node, height


class BuiltNode(NamedTuple):
    cid: bytes
    raw: bytes
    level: int


def build_nodes(items: Iterable[tuple[bytes, bytes]]) -> Iterator[BuiltNode]:
    """Yield the nodes of the tree of sorted (key, CID) pairs, the root last.

    Memory holds one open node for each level. Raises InvalidTreeError for unsorted
    keys, LimitExceededError for keys that are too long or were mined.
    """
    open_nodes: list[NodeContent | None] = [None]
    last = b""
    for key, value in items:
        if key <= last:
            raise InvalidTreeError("tree keys are not in order")
        if len(key) > MAX_TREE_KEY_BYTES:
            raise LimitExceededError("tree key is too long")
        last = key
        level = height(key)
        below: bytes | None = None
        if level:
            if level > MAX_TREE_HEIGHT:
                raise LimitExceededError("tree is too high")
            while len(open_nodes) <= level:
                open_nodes.append(None)
            for lower in range(level):
                built = _close(open_nodes, lower, below)
                if built is not None:
                    below = built.cid
                    yield built
        node = open_nodes[level]
        if node is None:
            node = open_nodes[level] = ([], [], [below])
        keys, values, links = node
        if len(keys) == MAX_NODE_ENTRIES:
            raise LimitExceededError("tree node has too many entries")
        links[-1] = below
        keys.append(key)
        values.append(value)
        links.append(None)
    if not last:
        yield BuiltNode(EMPTY_ROOT, EMPTY_NODE, 0)
        return
    below = None
    for level in range(len(open_nodes)):
        built = _close(open_nodes, level, below)
        if built is not None:
            below = built.cid
            yield built


def build_root(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    root = EMPTY_ROOT
    for node in build_nodes(items):
        root = node.cid
    return root


def _close(
    open_nodes: list[NodeContent | None], level: int, below: bytes | None
) -> BuiltNode | None:
    """Finish the open node of a level; `below` is the finished node underneath."""
    node = open_nodes[level]
    if node is None:
        if below is None:
            return None
        node = ([], [], [below])
    elif below is not None:
        node[2][-1] = below
    open_nodes[level] = None
    raw = encode_node(*node)
    return BuiltNode(cid_for(raw), raw, level)
