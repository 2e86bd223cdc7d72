"""Partial reading of trees: key ranges that are proven complete, and known parts.

Opening every node whose bounds touch a range, from a signed root down, yields all keys
of the range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from protocol.errors import LimitExceededError
from protocol.limits import MAX_TREE_HEIGHT
from protocol.mst.build import build_nodes
from protocol.mst.node import GetBlock, height
from protocol.mst.walk import ROOT_PLACE, Item, Place, items_reversed, open_node

# From the first key up to, but excluding, the second.
Range = tuple[bytes, bytes]
# Between two keys, both excluded; None is the end of the tree.
Gap = tuple[bytes, bytes | None]


def collection_range(nsid: str) -> Range:
    """Return the range of all records of a collection."""
    start = nsid.encode() + b"/"
    return start, start[:-1] + b"0"  # the character after the slash


class RangeWalk:
    """Opens the nodes that touch some ranges: fetch `wanted`, then `take` each.

    `found` holds the (key, CID) of the ranges, unsorted, complete once nothing is
    wanted.
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
        """Return the CIDs of the nodes to fetch next."""
        return list(self._places)

    def take(self, cid: bytes, raw: bytes) -> None:
        """Open a wanted node with a verified hash.

        Raises InvalidTreeError for a node in a wrong place, LimitExceededError for too
        many keys or nodes.
        """
        for place in self._places.pop(cid):
            for below, item in items_reversed(open_node(raw, place)):
                if isinstance(item, bytes):
                    if any(low <= item < high for low, high in self._ranges):
                        self.found.append((item, below))
                elif self._touches(item):
                    self._places.setdefault(below, []).append(item)
        if len(self.found) > self._most or len(self._places) > self._most:
            raise LimitExceededError("ranges hold too many keys or nodes")

    def _touches(self, place: Place) -> bool:
        return any(
            place.low < high and (place.high is None or place.high > low)
            for low, high in self._ranges
        )


@dataclass(slots=True)
class KnownPart:
    """The named (key, CID) of a partial tree and its missing nodes, in order."""

    found: list[tuple[bytes, bytes]] = field(default_factory=list)
    missing: list[bytes] = field(default_factory=list)


def locate_nodes(
    items: Iterable[tuple[bytes, bytes]], cids: Iterable[bytes]
) -> dict[bytes, Gap]:
    """Return the gaps of nodes in the tree of sorted (key, CID) items.

    Nodes that are not in it are left out. Raises as `build_nodes`.
    """
    wanted = set(cids)
    places: dict[bytes, Gap] = {}
    upcoming: bytes | None = None
    # The last key of each level; it ends all nodes of the levels below.
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
    """Yield the sorted (key, CID) items in sorted gaps; pass the rest to `other`."""
    left = iter(gaps)
    gap = next(left, None)
    for key, cid in items:
        while gap is not None and gap[1] is not None and gap[1] <= key:
            gap = next(left, None)
        if gap is not None and gap[0] < key:
            yield key, cid
        else:
            other(key, cid)


def read_part(get_block: GetBlock, root: bytes) -> KnownPart:
    """Walk the available nodes of a tree.

    Raises InvalidTreeError or LimitExceededError for an invalid node.
    """
    part = KnownPart()
    stack: list[Item] = [(root, ROOT_PLACE)]
    while stack:
        cid, item = stack.pop()
        if isinstance(item, bytes):
            part.found.append((item, cid))
        elif (raw := get_block(cid)) is None:
            part.missing.append(cid)
        else:
            stack += items_reversed(open_node(raw, item))
    return part
