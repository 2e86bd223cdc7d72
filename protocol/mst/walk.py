"""Reading a whole tree in order, every node checked in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from protocol.errors import InvalidTreeError, MissingBlockError
from protocol.mst.node import NodeContent, check_level, node_level, parse_node
from protocol.mst.tree import GetBlock

ROOT_LEVEL = -1


class Place(NamedTuple):
    """Where a node stands: its level, and between which keys, exclusive."""

    level: int
    low: bytes
    high: bytes | None


ROOT_PLACE = Place(ROOT_LEVEL, b"", None)


class PlacedNode(NamedTuple):
    cid: bytes
    raw: bytes
    place: Place
    content: NodeContent


def open_node(raw: bytes, place: Place) -> tuple[Place, NodeContent]:
    """What a node holds, and its place with the level found out if it is the root.

    Verifies all that can be wrong with a node: its form, the heights of its keys,
    their order within it and against its bounds. Raises InvalidTreeError or
    LimitExceededError.
    """
    content = parse_node(raw)
    keys, _, links = content
    level, low, high = place
    if level == ROOT_LEVEL:
        place = Place(node_level(keys, links), low, high)
        level = place.level
        if not keys:
            return place, content
    check_level(keys, links, level)
    if keys and (keys[0] <= low or (high is not None and keys[-1] >= high)):
        raise InvalidTreeError("keys of the tree are not in order")
    return place, content


def child_place(node: PlacedNode, index: int) -> Place:
    """Where the node behind the link of that index must stand."""
    keys = node.content[0]
    level, low, high = node.place
    return Place(
        level - 1,
        keys[index - 1] if index else low,
        keys[index] if index < len(keys) else high,
    )


def load_node(get_block: GetBlock, cid: bytes, place: Place) -> PlacedNode:
    """Read a node; raises MissingBlockError, or as `open_node`."""
    raw = get_block(cid)
    if raw is None:
        raise MissingBlockError("a node of the tree is missing")
    place, content = open_node(raw, place)
    return PlacedNode(cid, raw, place, content)


def walk_nodes(get_block: GetBlock, root: bytes) -> Iterator[PlacedNode]:
    """All nodes, each before those below it, from left to right."""
    stack = [(root, ROOT_PLACE)]
    while stack:
        node = load_node(get_block, *stack.pop())
        yield node
        links = node.content[2]
        for index in range(len(links) - 1, -1, -1):
            link = links[index]
            if link is not None:
                stack.append((link, child_place(node, index)))


def walk(
    get_block: GetBlock, root: bytes, start: bytes = b""
) -> Iterator[tuple[bytes, bytes]]:
    """The (key, CID) of all records, in the order of the keys, from `start` on."""
    stack: list[tuple[bytes, Place] | tuple[bytes, bytes]] = [(root, ROOT_PLACE)]
    while stack:
        cid, item = stack.pop()
        if isinstance(item, bytes):
            yield item, cid
            continue
        node = load_node(get_block, cid, item)
        keys, values, links = node.content
        for index in range(len(keys), -1, -1):
            link = links[index]
            if link is not None and (index == len(keys) or keys[index] > start):
                stack.append((link, child_place(node, index)))
            if index and keys[index - 1] >= start:
                stack.append((values[index - 1], keys[index - 1]))
