"""Proofs that a key stands in a tree with a CID, or does not stand in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from protocol.mst.node import height
from protocol.mst.tree import GetBlock
from protocol.mst.walk import ROOT_PLACE, Place, PlacedNode, child_place, load_node


def prove(get_block: GetBlock, root: bytes, key: bytes) -> dict[bytes, bytes]:
    """Return the nodes on the way to a key, whether or not it is there, root first.

    The way to an absent key goes on below its level, for readers that expect it.
    Raises MissingBlockError, InvalidTreeError or LimitExceededError.
    """
    return {node.cid: node.raw for node in _walk(get_block, root, key)}


def find_proven(blocks: Mapping[bytes, bytes], root: bytes, key: bytes) -> bytes | None:
    """Return the CID under `key` in the tree `root`; None is proof of its absence.

    A node at the level of the key, or below it, that does not hold the key proves its
    absence. Verifies the nodes on the way, each in its place. Does not verify that
    `root` is signed. Raises MissingBlockError where the proof is not whole,
    InvalidTreeError or LimitExceededError for nodes that are wrong.
    """
    level = height(key)
    for node in _walk(blocks.get, root, key):
        keys, values, _ = node.content
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            return values[index]
        if node.place.level <= level:
            return None
    return None


def _walk(get_block: GetBlock, root: bytes, key: bytes) -> Iterator[PlacedNode]:
    """Read node after node on the way to a key, up to the one that holds it."""
    link: bytes | None = root
    place: Place = ROOT_PLACE
    while link is not None:
        node = load_node(get_block, link, place)
        yield node
        keys, _, links = node.content
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            return
        link = links[index]
        place = child_place(node, index)
