"""Reading parts of a tree: key ranges that are proven complete, and what changed.

A node names all keys between two bounds, or the nodes that do. Whoever has opened, from
a signed root down, every node whose bounds touch a range has seen every key of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from protocol.errors import LimitExceededError
from protocol.limits import MAX_TREE_HEIGHT
from protocol.mst.build import build_nodes
from protocol.mst.node import height
from protocol.mst.walk import ROOT_PLACE, Place, PlacedNode, child_place, open_node

Range = tuple[bytes, bytes]
"""From the first key on, up to but not including the second."""
Gap = tuple[bytes, bytes | None]
"""Between two keys, both excluded; None is the end of the tree."""


def collection_range(nsid: str) -> Range:
    """Where all records of a collection stand."""
    start = nsid.encode() + b"/"
    return start, start[:-1] + b"0"  # the character behind the slash


class RangeWalk:
    """Opens the nodes that touch some ranges. Ask for `wanted`, then `take` each.

    `found` are (key, CID) of the ranges, in no order; complete once nothing is wanted.
    """

    def __init__(
        self, root: bytes, ranges: Sequence[Range], *, most: int = 1_000_000
    ) -> None:
        self.found: list[tuple[bytes, bytes]] = []
        self._ranges = ranges
        self._most = most
        self._places: dict[bytes, list[Place]] = {root: [ROOT_PLACE]}

    @property
    def wanted(self) -> list[bytes]:
        """CIDs of the nodes that come next."""
        return list(self._places)

    def take(self, cid: bytes, raw: bytes) -> None:
        """Open a wanted node, whose hash has been checked.

        Raises InvalidTreeError for a node that cannot stand in its place,
        LimitExceededError when more is found than was asked for.
        """
        for place in self._places.pop(cid):
            node = PlacedNode(cid, raw, *open_node(raw, place))
            keys, values, links = node.content
            for key, value in zip(keys, values, strict=True):
                if any(low <= key < high for low, high in self._ranges):
                    self.found.append((key, value))
            for index, link in enumerate(links):
                if link is not None:
                    below = child_place(node, index)
                    if self._touches(below):
                        self._places.setdefault(link, []).append(below)
        if len(self.found) > self._most or len(self._places) > self._most:
            raise LimitExceededError("the ranges hold more than was asked for")

    def _touches(self, place: Place) -> bool:
        return any(
            place.low < high and (place.high is None or place.high > low)
            for low, high in self._ranges
        )


@dataclass(slots=True)
class KnownPart:
    """What a few nodes of a tree tell: `found` are the (key, CID) that they name, in
    order; `missing` the CIDs of the nodes that are not at hand, in order. Elsewhere
    there is nothing."""

    found: list[tuple[bytes, bytes]] = field(default_factory=list)
    missing: list[bytes] = field(default_factory=list)


def locate_nodes(
    items: Iterable[tuple[bytes, bytes]], cids: Iterable[bytes]
) -> dict[bytes, Gap]:
    """Between which keys some nodes stand in the tree of sorted (key, CID) items;
    nodes that are not in it are left out. Raises as `build_nodes`."""
    wanted = set(cids)
    places: dict[bytes, Gap] = {}
    upcoming: bytes | None = None
    # The last key of each level: one ends all nodes of the levels below.
    newest = [b""] * (MAX_TREE_HEIGHT + 1)

    def watched() -> Iterator[tuple[bytes, bytes]]:
        nonlocal upcoming
        for key, cid in items:
            upcoming = key
            yield key, cid
            newest[height(key)] = key
        upcoming = None

    for node in build_nodes(watched()):
        if node.cid in wanted:
            places[node.cid] = max(newest[node.level + 1 :], default=b""), upcoming
    return places


def keep_within(
    items: Iterable[tuple[bytes, bytes]],
    gaps: Sequence[Gap],
    other: Callable[[bytes, bytes], None],
) -> Iterator[tuple[bytes, bytes]]:
    """Those of sorted (key, CID) items that stand in sorted gaps; the rest to
    `other`."""
    left = iter(gaps)
    gap = next(left, None)
    for key, cid in items:
        while gap is not None and gap[1] is not None and gap[1] <= key:
            gap = next(left, None)
        if gap is not None and gap[0] < key:
            yield key, cid
        else:
            other(key, cid)


def read_part(get_block: Callable[[bytes], bytes | None], root: bytes) -> KnownPart:
    """Walk those nodes of a tree that are at hand.

    Raises InvalidTreeError or LimitExceededError for a wrong one.
    """
    part = KnownPart()
    stack: list[tuple[bytes, Place] | tuple[bytes, bytes]] = [(root, ROOT_PLACE)]
    while stack:
        cid, item = stack.pop()
        if isinstance(item, bytes):
            part.found.append((item, cid))
            continue
        raw = get_block(cid)
        if raw is None:
            part.missing.append(cid)
            continue
        node = PlacedNode(cid, raw, *open_node(raw, item))
        keys, values, links = node.content
        for index in range(len(keys), -1, -1):
            link = links[index]
            if link is not None:
                stack.append((link, child_place(node, index)))
            if index:
                stack.append((values[index - 1], keys[index - 1]))
    return part
