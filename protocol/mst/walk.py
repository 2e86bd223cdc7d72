"""Nodes of a tree in their places, each checked against its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from protocol.errors import InvalidTreeError
from protocol.mst.node import NodeContent, check_level, node_level, parse_node

_ROOT_LEVEL = -1


class Place(NamedTuple):
    """The level of a node, and the keys that bound it, exclusive."""

    level: int
    low: bytes
    high: bytes | None


# The level of the root is found when it is opened.
ROOT_PLACE = Place(_ROOT_LEVEL, b"", None)

# A node and its place, or a record and its key.
Item = tuple[bytes, Place] | tuple[bytes, bytes]


class PlacedNode(NamedTuple):
    place: Place
    content: NodeContent


def open_node(raw: bytes, place: Place) -> PlacedNode:
    """Parse a node and check it against its place.

    Verifies the form, and the heights and the order of its keys. Raises
    InvalidTreeError or LimitExceededError.
    """
    content = parse_node(raw)
    keys, _, links = content
    level, low, high = place
    if level == _ROOT_LEVEL:
        level = node_level(keys, links)
        place = Place(level, low, high)
        if not keys:
            return PlacedNode(place, content)
    check_level(keys, links, level)
    if keys and (keys[0] <= low or (high is not None and keys[-1] >= high)):
        raise InvalidTreeError("tree keys are not in order")
    return PlacedNode(place, content)


def items_reversed(node: PlacedNode) -> Iterator[Item]:
    """Yield the subtrees and records of a node, last first."""
    (level, low, high), (keys, values, links) = node
    for index in range(len(keys), -1, -1):
        link = links[index]
        before = keys[index - 1] if index else low
        if link is not None:
            yield link, Place(level - 1, before, high)
        if index:
            yield values[index - 1], before
        high = before
