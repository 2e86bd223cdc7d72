"""Trees made bottom-up from sorted records, without holding them (specs/repository)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError, LimitExceededError
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_HEIGHT, MAX_TREE_KEY_BYTES
from protocol.mst.node import EMPTY_NODE, EMPTY_ROOT, Links, encode_node, height


class BuiltNode(NamedTuple):
    cid: bytes
    raw: bytes
    level: int


class _OpenNode:
    __slots__ = ("keys", "links", "values")

    def __init__(self, first_link: bytes | None) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.links: Links = [first_link]


def build_nodes(items: Iterable[tuple[bytes, bytes]]) -> Iterator[BuiltNode]:
    """The nodes of the tree of (key, CID) pairs, each as soon as it is complete.

    A node comes behind all nodes below it, the root last. Memory is one open node for
    each level. Raises InvalidTreeError for keys that do not rise strictly,
    LimitExceededError for keys that are too long or were mined.
    """
    open_nodes: list[_OpenNode | None] = [None]
    last = b""
    for key, value in items:
        if key <= last:
            raise InvalidTreeError("keys are not in order")
        if len(key) > MAX_TREE_KEY_BYTES:
            raise LimitExceededError("a key of the tree is too long")
        last = key
        level = height(key)
        below: bytes | None = None
        if level:
            if level > MAX_TREE_HEIGHT:
                raise LimitExceededError("the tree is too high")
            while len(open_nodes) <= level:
                open_nodes.append(None)
            for lower in range(level):
                built = _close(open_nodes, lower, below)
                if built is not None:
                    below = built.cid
                    yield built
        node = open_nodes[level]
        if node is None:
            node = open_nodes[level] = _OpenNode(below)
        else:
            node.links[-1] = below
            if len(node.keys) == MAX_NODE_ENTRIES:
                raise LimitExceededError("too many entries in a node of the tree")
        node.keys.append(key)
        node.values.append(value)
        node.links.append(None)
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
    """The CID of the root of the tree of (key, CID) pairs; as `build_nodes`."""
    root = EMPTY_ROOT
    for node in build_nodes(items):
        root = node.cid
    return root


def _close(
    open_nodes: list[_OpenNode | None], level: int, below: bytes | None
) -> BuiltNode | None:
    """Finish the open node of a level; `below` is the finished one underneath."""
    node = open_nodes[level]
    if node is None:
        if below is None:
            return None
        node = _OpenNode(below)
    elif below is not None:
        node.links[-1] = below
    open_nodes[level] = None
    raw = encode_node(node.keys, node.values, node.links)
    return BuiltNode(cid_for(raw), raw, level)
