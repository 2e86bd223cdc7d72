"""Undoing operations one by one on the bytes of a tree: the short way of `invert`.

Nodes that were split or merged at the key are read strictly. Of the node that holds it
only what the operation wrote is: the key's own entry and the prefix of the next one.
In the bytes of the nodes above one link is replaced. All else is read loosely. If the
root that comes out is that of a well formed tree, the nodes are nodes of that tree but
for what was looked at, so they are well formed too; and so, backwards, for each
operation before. If it is not, nothing has been proven, and the caller reads the whole
strictly.

`blocks` are the nodes at hand, to which each step adds those it makes. Any function
here may raise LookupError, TypeError or ValueError as well, where a node
is none or did not come.
"""

from __future__ import annotations

from bisect import bisect_left
from hashlib import sha256
from typing import Any, Final

from libipld import encode_dag_cbor

from protocol.data.cid import DATA_PREFIX, cid_for, is_data_cid
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_KEY_BYTES
from protocol.mst.node import (
    EMPTY_ROOT,
    FIRST_PATH_BYTE,
    Links,
    NodeContent,
    decode_node,
    encode_node,
    height,
    parse_node,
    shared_prefix,
)

Blocks = dict[bytes, bytes]

_LINK_TAG: Final = b"\xd8\x2a\x58\x25\x00"
_NULL: Final = b"\xf6"
_EMPTIED: Final = encode_node([], [], [None])
# Of nodes that are read loosely, all together: a node may be read once for each
# operation, and what is in it has not been looked at. Of a few operations in a tree of
# a million records it is about half as much.
_MOST_BYTES: Final = 128 * 1024


class CannotUndoError(Exception):
    """The operation does not fit the tree, or only a strict reading can tell."""


class Undoing:
    """Undoes operations on one tree, best in the order of their keys.

    It stays where the last one was: what lies above is written anew once the next key
    is elsewhere, so operations that are close to each other share their way.
    """

    __slots__ = ("_blocks", "_here", "_left", "_path", "_top", "_unchecked")

    def __init__(self, blocks: Blocks, data: bytes, unchecked: list[bytes]) -> None:
        self._blocks = blocks
        # Receives created keys that have a neighbour whose node did not come.
        self._unchecked = unchecked
        # Bytes that may still be read loosely.
        self._left = _MOST_BYTES
        # The node at the end of the path, perhaps new, and the level of the root.
        self._here = data
        self._top = 0
        # The nodes above it, the root first: as they were, the link that was followed,
        # and a key that all below it come before, if there is one.
        self._path: list[tuple[bytes, bytes, bytes | None]] = []

    def undo(self, key: bytes, cid: bytes | None, prev: bytes | None) -> None:
        """Go back before an operation; for that see `mst.invert.TreeOp`.

        Raises CannotUndoError where the operation does not fit, InvalidTreeError for a
        node that is not well formed.
        """
        blocks = self._blocks
        path = self._path
        target = height(key)
        bound: bytes | None = None
        if path:
            bound = self._climb(key, target)
        if self._here == EMPTY_ROOT:
            if cid is not None or prev is None:
                raise CannotUndoError("the tree does not hold the key")
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
                # The way back writes a new link here, whatever stood in its place.
                raise CannotUndoError("a link to a node that is no CID of a block")
            path.append((raw, below, bound))
            level -= 1
            raw = blocks[below]
            node = self._decode(raw)
        keys = _read_keys(raw, node)
        entries = node["e"]
        index = bisect_left(keys, key)
        found = index < len(keys) and keys[index] == key
        if cid is None:
            if found or prev is None:
                raise CannotUndoError("a deleted key is in the tree")
            if level < target:
                self._here = _put_on_top(blocks, self._here, key, prev, level, target)
                return
            below = _link_at(node, index)
            if level > target:
                if below is not None:
                    raise CannotUndoError("a node on the way holds the key")
                single = _single(blocks, key, prev)
                _set_link(node, index, _lift(blocks, single, target, level - 1))
            else:
                _check_prefix(entries, keys, index)
                before, behind = _split(blocks, below, key)
                _set_link(node, index, before)
                entries.insert(index, {"k": key, "p": 0, "t": behind, "v": prev})
                keys.insert(index, key)
                _cut_prefix(entries, keys, index)
                _cut_prefix(entries, keys, index + 1)
        else:
            if not found or level != target or entries[index]["v"] != cid:
                raise CannotUndoError("the tree does not hold the key")
            _check_entry(entries, keys, index)
            if prev is not None:
                entries[index]["v"] = prev
            else:
                joined = _link_at(node, index)
                behind = entries[index]["t"]
                if joined is not None or behind is not None:
                    joined = self._join(joined, behind, key)
                    _set_link(node, index, joined)
                _take_out(entries, keys, index)
                if not keys:
                    self._replace_emptied(joined, level)
                    return
                # That level was read off the first key of the root, which was this one.
                if not index and not path and height(keys[0]) != level:
                    raise CannotUndoError("a key stands at the wrong level")
        self._here = _keep(blocks, encode_dag_cbor(node))

    def root(self) -> bytes:
        """The root of the tree before all that was undone."""
        new = self._here
        for raw, old, _ in reversed(self._path):
            before, behind = _around(raw, old)
            new = DATA_PREFIX + sha256(before + new + behind).digest()
        return new

    def _climb(self, key: bytes, target: int) -> bytes | None:
        """Go up to where the way to a later key of level `target` branches off.

        Returns the key that all there come before, if there is one.
        """
        path = self._path
        deepest = self._top - target
        new = self._here
        while path:
            raw, old, bound = path[-1]
            if len(path) <= deepest and (bound is None or key < bound):
                break
            del path[-1]
            before, behind = _around(raw, old)
            new = _keep(self._blocks, before + new + behind)
        self._here = new
        return path[-1][2] if path else None

    def _replace_emptied(self, joined: bytes | None, level: int) -> None:
        """Take away a node of `level` that has lost its last key; `joined` is what it
        still has.

        A node without keys stays if it has a node below; without, it goes, and those
        above that had nothing else go with it. A root without keys gives way to what
        is below it.
        """
        blocks = self._blocks
        path = self._path
        if joined is None:
            while path:
                raw, link, _ = path.pop()
                before, behind = _around(raw, _LINK_TAG + link)
                raw = before + _NULL + behind
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
                # The nodes between are gone, so nothing else tells how many there were.
                if height(keys[0]) != level:
                    raise CannotUndoError("a key stands at the wrong level")
                self._here = joined
                return
            if links[0] is None:
                raise CannotUndoError("an empty node inside the tree")
            joined = links[0]
            level -= 1

    def _join(
        self, before: bytes | None, behind: bytes | None, key: bytes
    ) -> bytes | None:
        """One tree of the two on both sides of a key that is taken away.

        Reads both down to the key's neighbours: they must be on their sides of it. A
        tree that has nothing beside it moves as it is, so its nodes may be missing.
        """
        if before is None or behind is None:
            if not (self._check_start(behind, key) and self._check_end(before, key)):
                self._unchecked.append(key)
            return before or behind
        blocks = self._blocks
        keys, values, links = _parse_linked(blocks, before)
        more_keys, more_values, more_links = _parse_linked(blocks, behind)
        _check_not_empty(keys, links[0])
        _check_not_empty(more_keys, more_links[0])
        if (keys and keys[-1] >= key) or (more_keys and more_keys[0] <= key):
            raise CannotUndoError("keys are not in order")
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
        """Raise CannotUndoError unless the last key of a tree comes before `key`.

        Return False if a node on the way to it did not come.
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
                raise CannotUndoError("keys are not in order")
        return True

    def _check_start(self, link: bytes | None, key: bytes) -> bool:
        """Raise CannotUndoError unless the first key of a tree comes behind `key`.

        Return False if a node on the way to it did not come.
        """
        while link is not None:
            raw = self._blocks.get(link)
            if raw is None:
                return False
            node = self._decode(raw)
            entries = node["e"]
            if entries and entries[0]["k"] <= key:
                raise CannotUndoError("keys are not in order")
            link = node["l"]
        return True

    def _decode(self, raw: bytes) -> Any:
        """A node, read loosely."""
        self._left -= len(raw)
        if self._left < 0:
            raise CannotUndoError("too much to read in the short way")
        return decode_node(raw)


def _around(raw: bytes, link: bytes) -> list[bytes]:
    """What stands before and behind a link in the bytes of a node.

    Raises ValueError, when unpacked, unless it is there once: a record may have the
    very bytes of a node, and its CID then stands there twice.
    """
    return raw.split(link)


def _keep(blocks: Blocks, raw: bytes) -> bytes:
    cid = cid_for(raw)
    blocks[cid] = raw
    return cid


def _read_keys(raw: bytes, node: Any) -> list[bytes]:
    """The keys of a node, read loosely, but for the form of its encoding.

    A byte string that reads as a link would be encoded as one: then nothing is known.
    """
    if encode_dag_cbor(node) != raw or len(node) != 2:
        raise CannotUndoError("perhaps not in canonical form")
    keys: list[bytes] = []
    key = b""
    for entry in node["e"]:
        prefix = entry["p"]
        key = key[:prefix] + entry["k"] if prefix else entry["k"]
        keys.append(key)
    if len(keys) > MAX_NODE_ENTRIES:
        raise CannotUndoError("too many entries in a node of the tree")
    _check_not_empty(keys, node["l"])
    return keys


def _check_not_empty(keys: list[bytes], left: bytes | None) -> None:
    """An empty node would vanish when it is joined or filled, as if it were not."""
    if not keys and left is None:
        raise CannotUndoError("an empty node inside the tree")


def _check_entry(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Raise CannotUndoError unless an entry is a plain one, and in its place."""
    _check_prefix(entries, keys, index)
    entry = entries[index]
    key = keys[index]
    if len(entry) != 4 or not is_data_cid(entry["v"]) or len(key) > MAX_TREE_KEY_BYTES:
        raise CannotUndoError("an unusual entry")


def _check_prefix(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Raise CannotUndoError unless a key, if there is one, comes behind the one before
    it and leaves out what they share, and what is left cannot read as a link."""
    if index < len(keys):
        prefix = entries[index]["p"]
        if type(prefix) is not int:
            raise CannotUndoError("a prefix that is no number")
        before = keys[index - 1] if index else b""
        size = len(before)
        first = entries[index]["k"][0]
        # The first byte that differs is greater, as in `node.read_keys`.
        if first < FIRST_PATH_BYTE or (
            prefix != size and not (0 <= prefix < size and first > before[prefix])
        ):
            raise CannotUndoError("keys out of order, or not cut to their ends")


def _link_at(node: dict[str, Any], index: int) -> bytes | None:
    """The link before the entry of that index, or behind the last one."""
    link: bytes | None = node["e"][index - 1]["t"] if index else node["l"]
    return link


def _set_link(node: dict[str, Any], index: int, link: bytes | None) -> None:
    if index:
        node["e"][index - 1]["t"] = link
    else:
        node["l"] = link


def _take_out(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Drop an entry and write the next one, which is checked, behind the one before."""
    following = index + 1
    if following < len(keys):
        _check_prefix(entries, keys, following)
        entry = entries[following]
        # Three keys in order: what the outer two share, both share with the middle one.
        prefix = min(entry["p"], entries[index]["p"])
        entry["p"] = prefix
        entry["k"] = keys[following][prefix:]
    del keys[index], entries[index]


def _cut_prefix(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Write a key anew behind the one that is before it now, if there is one at all."""
    if index < len(keys):
        key = keys[index]
        prefix = shared_prefix(keys[index - 1], key) if index else 0
        entry = entries[index]
        entry["p"] = prefix
        entry["k"] = key[prefix:]


def _single(blocks: Blocks, key: bytes, value: bytes) -> bytes:
    return _keep(blocks, encode_node([key], [value], [None, None]))


def _lift(blocks: Blocks, link: bytes, level: int, top: int) -> bytes:
    """Put nodes without entries above a tree of `level`, up to level `top`."""
    for _ in range(level, top):
        link = _keep(blocks, encode_node([], [], [link]))
    return link


def _put_on_top(
    blocks: Blocks, data: bytes, key: bytes, value: bytes, level: int, target: int
) -> bytes:
    """The root of a tree of `level` with a key added that stands above all others."""
    links: Links = [
        None if part is None else _lift(blocks, part, level, target - 1)
        for part in _split(blocks, data, key)
    ]
    return _keep(blocks, encode_node([key], [value], links))


def _split(blocks: Blocks, link: bytes | None, key: bytes) -> Links:
    """The two parts of a tree before and behind a key that is not in it."""
    if link is None:
        return [None, None]
    keys, values, links = _parse_linked(blocks, link)
    _check_not_empty(keys, links[0])
    index = bisect_left(keys, key)
    left, right = _split(blocks, links[index], key)
    before: bytes | None = None
    behind: bytes | None = None
    if index or left is not None:
        before = _keep(
            blocks, encode_node(keys[:index], values[:index], [*links[:index], left])
        )
    if index < len(keys) or right is not None:
        rest = [right, *links[index + 1 :]]
        behind = _keep(blocks, encode_node(keys[index:], values[index:], rest))
    return [before, behind]


def _parse_linked(blocks: Blocks, link: bytes) -> NodeContent:
    """The node behind a link, which goes with it and so has to be a proper one."""
    if not is_data_cid(link):
        raise CannotUndoError("a link to a node that is no CID of a block")
    return parse_node(blocks[link])
