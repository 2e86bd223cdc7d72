"""Fast inversion: undo operations one by one on the bytes of a tree.

Nodes split or merged at the key are read strictly. The node that holds the key is read
loosely, except for the key's entry and the prefix of the next. In the nodes above, one
link is replaced. If the result is the root of a well-formed tree, its nodes are well
formed too, apart from what was checked. Otherwise nothing is proven, and the caller
reads all strictly.

`blocks` holds the available nodes and receives new ones. Any function may also raise
LookupError, TypeError or ValueError for a missing or malformed node.
"""

from __future__ import annotations

from bisect import bisect_left
from hashlib import sha256
from typing import Any, Final

from libipld import encode_dag_cbor

from protocol.data.cid import DATA_PREFIX, cid_for, is_data_cid
from protocol.mst.entries import (
    CannotUndoError,
    check_entry,
    check_not_empty,
    check_prefix,
    cut_prefix,
    link_at,
    read_entry_keys,
    set_link,
    take_out,
)
from protocol.mst.node import (
    EMPTY_ROOT,
    Links,
    NodeContent,
    decode_node,
    encode_node,
    height,
    parse_node,
)

Blocks = dict[bytes, bytes]

_LINK_TAG: Final = b"\xd8\x2a\x58\x25\x00"
_NULL: Final = b"\xf6"
_EMPTIED: Final = encode_node([], [], [None])
# Bound of all loosely read nodes, twice what a few operations in a tree of a million
# records need.
_MOST_BYTES: Final = 128 * 1024


class Undoing:
    """Undoes operations on one tree, fastest in the order of their keys.

    It stays at the last key: the nodes above are rewritten when the next key is
    elsewhere, so close operations share their path.
    """

    __slots__ = ("_blocks", "_here", "_left", "_path", "_top", "_unchecked")

    def __init__(self, blocks: Blocks, data: bytes, unchecked: list[bytes]) -> None:
        self._blocks = blocks
        # Receives created keys whose neighbours were not sent.
        self._unchecked = unchecked
        # Bytes that may still be read loosely.
        self._left = _MOST_BYTES
        # The node at the end of the path, and the level of the root.
        self._here = data
        self._top = 0
        # The nodes above it, root first: original bytes, the followed link, and the
        # key that bounds all below it.
        self._path: list[tuple[bytes, bytes, bytes | None]] = []

    def undo(self, key: bytes, cid: bytes | None, prev: bytes | None) -> None:
        """Undo one operation, as in `mst.invert.TreeOp`.

        Raises CannotUndoError if it does not fit, InvalidTreeError for a malformed
        node.
        """
        blocks = self._blocks
        path = self._path
        target = height(key)
        bound: bytes | None = None
        if path:
            bound = self._climb(key, target)
        if self._here == EMPTY_ROOT:
            if cid is not None or prev is None:
                raise CannotUndoError("tree does not hold the key")
            self._here = _single(blocks, key, prev)
            return
        raw = blocks[self._here]
        node = self._decode(raw)
        if not path:
            self._top = height(node["e"][0]["k"])
        level = self._top - len(path)
        current = b""
        while level > target:
            below = node["l"]
            for entry in node["e"]:
                prefix = entry["p"]
                current = current[:prefix] + entry["k"] if prefix else entry["k"]
                if current >= key:
                    bound = current
                    break
                below = entry["t"]
            if below is None:
                break
            if not is_data_cid(below):
                # The way back would overwrite this link.
                raise CannotUndoError("link to a node is not the CID of a block")
            path.append((raw, below, bound))
            level -= 1
            raw = blocks[below]
            node = self._decode(raw)
        keys = read_entry_keys(raw, node)
        entries = node["e"]
        index = bisect_left(keys, key)
        found = index < len(keys) and keys[index] == key
        if cid is None:
            if found or prev is None:
                raise CannotUndoError("tree holds a deleted key")
            if level < target:
                self._here = _put_on_top(blocks, self._here, key, prev, level, target)
                return
            below = link_at(node, index)
            if level > target:
                if below is not None:
                    raise CannotUndoError("a node below holds the key")
                single = _single(blocks, key, prev)
                set_link(node, index, _lift(blocks, single, target, level - 1))
            else:
                check_prefix(entries, keys, index)
                before, after = _split(blocks, below, key)
                set_link(node, index, before)
                entries.insert(index, {"k": key, "p": 0, "t": after, "v": prev})
                keys.insert(index, key)
                cut_prefix(entries, keys, index)
                cut_prefix(entries, keys, index + 1)
        else:
            if not found or level != target or entries[index]["v"] != cid:
                raise CannotUndoError("tree does not hold the key")
            check_entry(entries, keys, index)
            if prev is not None:
                entries[index]["v"] = prev
            else:
                joined = link_at(node, index)
                after = entries[index]["t"]
                if joined is not None or after is not None:
                    joined = self._join(joined, after, key)
                    set_link(node, index, joined)
                take_out(entries, keys, index)
                if not keys:
                    self._replace_emptied(joined, level)
                    return
                # The level was that of the first key of the root, which is gone.
                if not index and not path and height(keys[0]) != level:
                    raise CannotUndoError("tree key stands at the wrong level")
        self._here = _keep(blocks, encode_dag_cbor(node))

    def root(self) -> bytes:
        """Return the root of the tree before all undone operations."""
        new = self._here
        for raw, old, _ in reversed(self._path):
            before, after = _around(raw, old)
            new = DATA_PREFIX + sha256(before + new + after).digest()
        return new

    def _climb(self, key: bytes, target: int) -> bytes | None:
        """Go up to where the path to a later key of level `target` branches off.

        Return the key that bounds all below, if any.
        """
        path = self._path
        deepest = self._top - target
        new = self._here
        while path:
            raw, old, bound = path[-1]
            if len(path) <= deepest and (bound is None or key < bound):
                break
            del path[-1]
            before, after = _around(raw, old)
            new = _keep(self._blocks, before + new + after)
        self._here = new
        return path[-1][2] if path else None

    def _replace_emptied(self, joined: bytes | None, level: int) -> None:
        """Remove a node of `level` that lost its last key; `joined` is the node below.

        A node without keys stays if it has a node below. Otherwise it goes, with all
        nodes above that held nothing else. A root without keys is replaced by the node
        below.
        """
        blocks = self._blocks
        path = self._path
        if joined is None:
            while path:
                raw, link, _ = path.pop()
                before, after = _around(raw, _LINK_TAG + link)
                raw = before + _NULL + after
                if raw != _EMPTIED:
                    self._here = _keep(blocks, raw)
                    return
            self._here = EMPTY_ROOT
            return
        if path:
            self._here = _keep(blocks, encode_node([], [], [joined]))
            return
        level -= 1
        while True:
            keys, _, links = _parse_linked(blocks, joined)
            if keys:
                # The removed nodes between are otherwise unchecked.
                if height(keys[0]) != level:
                    raise CannotUndoError("tree key stands at the wrong level")
                self._here = joined
                return
            if links[0] is None:
                raise CannotUndoError("empty node inside the tree")
            joined = links[0]
            level -= 1

    def _join(
        self, before: bytes | None, after: bytes | None, key: bytes
    ) -> bytes | None:
        """Return one tree of the two on both sides of a removed key.

        Reads both down to the key's neighbours. A tree without a neighbour moves as it
        is, so its nodes may be missing.
        """
        if before is None or after is None:
            if not (self._check_start(after, key) and self._check_end(before, key)):
                self._unchecked.append(key)
            return before or after
        blocks = self._blocks
        keys, values, links = _parse_linked(blocks, before)
        more_keys, more_values, more_links = _parse_linked(blocks, after)
        check_not_empty(keys, links[0])
        check_not_empty(more_keys, more_links[0])
        if (keys and keys[-1] >= key) or (more_keys and more_keys[0] <= key):
            raise CannotUndoError("tree keys are not in order")
        middle = self._join(links[-1], more_links[0], key)
        return _keep(
            blocks,
            encode_node(
                keys + more_keys,
                values + more_values,
                [*links[:-1], middle, *more_links[1:]],
            ),
        )

    def _check_end(self, link: bytes | None, key: bytes) -> bool:
        """Raise CannotUndoError unless the last key of a tree precedes `key`.

        Return False if a node on the way to it is missing.
        """
        while link is not None:
            raw = self._blocks.get(link)
            if raw is None:
                return False
            node = self._decode(raw)
            link = node["l"]
            current = b""
            for entry in node["e"]:
                current = current[: entry["p"]] + entry["k"]
                link = entry["t"]
            if current >= key:
                raise CannotUndoError("tree keys are not in order")
        return True

    def _check_start(self, link: bytes | None, key: bytes) -> bool:
        """Raise CannotUndoError unless the first key of a tree follows `key`.

        Return False if a node on the way to it is missing.
        """
        while link is not None:
            raw = self._blocks.get(link)
            if raw is None:
                return False
            node = self._decode(raw)
            entries = node["e"]
            if entries and entries[0]["k"] <= key:
                raise CannotUndoError("tree keys are not in order")
            link = node["l"]
        return True

    def _decode(self, raw: bytes) -> Any:
        """Read a node loosely."""
        self._left -= len(raw)
        if self._left < 0:
            raise CannotUndoError("too many bytes to read loosely")
        return decode_node(raw)


def _around(raw: bytes, link: bytes) -> list[bytes]:
    """Return the bytes before and after a link in a node.

    Unpacking raises ValueError unless the link occurs once: a record may have the bytes
    of a node, and so the same CID.
    """
    return raw.split(link)


def _keep(blocks: Blocks, raw: bytes) -> bytes:
    cid = cid_for(raw)
    blocks[cid] = raw
    return cid


def _single(blocks: Blocks, key: bytes, value: bytes) -> bytes:
    return _keep(blocks, encode_node([key], [value], [None, None]))


def _lift(blocks: Blocks, link: bytes, level: int, top: int) -> bytes:
    """Put empty nodes above a tree of `level`, up to level `top`."""
    for _ in range(level, top):
        link = _keep(blocks, encode_node([], [], [link]))
    return link


def _put_on_top(
    blocks: Blocks, data: bytes, key: bytes, value: bytes, level: int, target: int
) -> bytes:
    """Return the root of a tree of `level` with a key added above all others."""
    links: Links = [
        None if part is None else _lift(blocks, part, level, target - 1)
        for part in _split(blocks, data, key)
    ]
    return _keep(blocks, encode_node([key], [value], links))


def _split(blocks: Blocks, link: bytes | None, key: bytes) -> Links:
    """Return the parts of a tree before and after a key that it does not hold."""
    if link is None:
        return [None, None]
    keys, values, links = _parse_linked(blocks, link)
    check_not_empty(keys, links[0])
    index = bisect_left(keys, key)
    left, right = _split(blocks, links[index], key)
    before: bytes | None = None
    after: bytes | None = None
    if index or left is not None:
        before = _keep(
            blocks, encode_node(keys[:index], values[:index], [*links[:index], left])
        )
    if index < len(keys) or right is not None:
        rest = [right, *links[index + 1 :]]
        after = _keep(blocks, encode_node(keys[index:], values[index:], rest))
    return [before, after]


def _parse_linked(blocks: Blocks, link: bytes) -> NodeContent:
    """Return the node of a link, which must be the CID of a block."""
    if not is_data_cid(link):
        raise CannotUndoError("link to a node is not the CID of a block")
    return parse_node(blocks[link])
