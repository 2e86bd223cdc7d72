"""Proofs that a key stands in a tree with a CID, or does not stand in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from protocol.mst.tree import GetBlock
from protocol.mst.walk import ROOT_PLACE, Place, child_place, load_node


def prove(get_block: GetBlock, root: bytes, key: bytes) -> dict[bytes, bytes]:
    """The nodes on the way to a key, whether or not it is there, by CID, root first.

    Raises MissingBlockError, InvalidTreeError or LimitExceededError.
    """
    return _follow(get_block, root, key)[1]


def find_proven(blocks: Mapping[bytes, bytes], root: bytes, key: bytes) -> bytes | None:
    """The CID under `key` in the tree `root`; None is proof that there is none.

    Verifies the nodes on the way, each in its place. Does not verify that `root` is
    signed. Raises MissingBlockError where the proof is not whole, InvalidTreeError or
    LimitExceededError where it is none.
    """
    return _follow(blocks.get, root, key)[0]


def _follow(
    get_block: GetBlock, root: bytes, key: bytes
) -> tuple[bytes | None, dict[bytes, bytes]]:
    way: dict[bytes, bytes] = {}
    link: bytes | None = root
    place: Place = ROOT_PLACE
    while link is not None:
        node = load_node(get_block, link, place)
        way[node.cid] = node.raw
        keys, values, links = node.content
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            return values[index], way
        link = links[index]
        place = child_place(node, index)
    return None, way
