"""Export of whole repos as CAR streams, in pre-order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError
from protocol.mst.build import BuiltNode, build_nodes
from protocol.mst.node import encode_node, parse_node
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import parse_commit

_RECORD_LEVEL: Final = -1
# Trees below this level are built in memory. They hold a few hundred records each,
# since a quarter of the keys of each level are of the next.
_BUFFERED_LEVELS: Final = 4


def export_repo(
    commit_raw: bytes, items: Callable[[], Iterable[tuple[bytes, bytes, bytes]]]
) -> Iterator[bytes]:
    """Return the CAR of a repo in pre-order, in pieces.

    `items` starts a pass over the (key, CID, value) of all records in the order of
    keys; it is called twice. Memory holds the upper levels of the tree and a few
    hundred records. Raises InvalidTreeError before the first piece if the records do
    not match the commit.
    """
    commit = parse_commit(commit_raw)
    nodes: dict[bytes, bytes] = {}
    root: BuiltNode | None = None
    for root in build_nodes((key, cid) for key, cid, _ in items()):
        if root.level >= _BUFFERED_LEVELS:
            nodes[root.cid] = root.raw
    if root is None or root.cid != commit.data:
        raise InvalidTreeError("records do not match the tree of the commit")
    return _export(commit_raw, root, nodes, _Items(items()))


class _Items:
    """Sorted records with lookahead."""

    def __init__(self, items: Iterable[tuple[bytes, bytes, bytes]]) -> None:
        self._source = iter(items)
        self._ahead: deque[tuple[bytes, bytes, bytes]] = deque()

    def next(self) -> tuple[bytes, bytes, bytes]:
        item = self._ahead.popleft() if self._ahead else next(self._source, None)
        if item is None:
            raise InvalidTreeError("records changed between the two passes")
        return item

    def until(self, high: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return the keys and CIDs of all records before `high`; None is the end."""
        for item in self._source:
            self._ahead.append(item)
            if high is not None and item[0] >= high:
                break
        return [(key, cid) for key, cid, _ in self._ahead if high is None or key < high]


class _Todo(NamedTuple):
    """A node and the end of its keys; a record has the level -1."""

    cid: bytes
    level: int
    high: bytes | None


def _export(
    commit_raw: bytes, root: BuiltNode, nodes: dict[bytes, bytes], items: _Items
) -> Iterator[bytes]:
    commit_cid = cid_for(commit_raw)
    yield car_header(commit_cid)
    yield car_block(commit_cid, commit_raw)
    stack = [_Todo(root.cid, root.level, None)]
    while stack:
        cid, level, high = stack.pop()
        if level < 0:
            _, found, value = items.next()
            if found != cid:
                raise InvalidTreeError("records changed between the two passes")
            yield car_block(cid, value)
            continue
        if cid not in nodes:
            _build_lower(nodes, items.until(high), level)
        raw = nodes.pop(cid, None)
        if raw is None:
            raise InvalidTreeError("records changed between the two passes")
        yield car_block(cid, raw)
        keys, values, links = parse_node(raw)
        bounds: list[bytes | None] = [*keys, high]
        for index in range(len(keys), -1, -1):
            link = links[index]
            if link is not None:
                stack.append(_Todo(link, level - 1, bounds[index]))
            if index:
                stack.append(_Todo(values[index - 1], _RECORD_LEVEL, None))


def _build_lower(
    nodes: dict[bytes, bytes], items: list[tuple[bytes, bytes]], level: int
) -> None:
    """Add the nodes of a tree of a few records, up to a root at `level`."""
    built: BuiltNode | None = None
    for built in build_nodes(items):
        nodes[built.cid] = built.raw
    assert built is not None
    cid = built.cid
    for _ in range(built.level, level):
        raw = encode_node([], [], [cid])
        cid = cid_for(raw)
        nodes[cid] = raw
