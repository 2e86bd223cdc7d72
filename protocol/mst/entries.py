"""Entries of loosely read nodes, checked and changed in place for `mst.splice`."""

from __future__ import annotations

from typing import Any

from libipld import encode_dag_cbor

from protocol.data.cid import is_data_cid
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_KEY_BYTES
from protocol.mst.node import FIRST_PATH_BYTE, shared_prefix


class CannotUndoError(Exception):
    """An operation that does not fit the tree, or needs a strict reading."""


def read_entry_keys(raw: bytes, node: Any) -> list[bytes]:
    """Return the keys of a loosely read node in the form that libipld encodes.

    A byte string that reads as a link would be encoded as one, so a difference decides
    nothing.
    """
    if encode_dag_cbor(node) != raw or len(node) != 2:
        raise CannotUndoError("node may not be in canonical form")
    keys: list[bytes] = []
    key = b""
    for entry in node["e"]:
        prefix = entry["p"]
        key = key[:prefix] + entry["k"] if prefix else entry["k"]
        keys.append(key)
    if len(keys) > MAX_NODE_ENTRIES:
        raise CannotUndoError("tree node has too many entries")
    check_not_empty(keys, node["l"])
    return keys


def check_not_empty(keys: list[bytes], left: bytes | None) -> None:
    """Raise CannotUndoError for an empty node, which a join would drop."""
    if not keys and left is None:
        raise CannotUndoError("empty node inside the tree")


def check_entry(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Raise CannotUndoError unless an entry is plain and in its place."""
    check_prefix(entries, keys, index)
    entry = entries[index]
    key = keys[index]
    if len(entry) != 4 or not is_data_cid(entry["v"]) or len(key) > MAX_TREE_KEY_BYTES:
        raise CannotUndoError("entry is unusual")


def check_prefix(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Raise CannotUndoError unless a key, if any, follows its predecessor.

    Its prefix must be exact, and its suffix must not read as a link.
    """
    if index < len(keys):
        prefix = entries[index]["p"]
        if type(prefix) is not int:
            raise CannotUndoError("prefix is not a number")
        before = keys[index - 1] if index else b""
        size = len(before)
        first = entries[index]["k"][0]
        # As in `node.read_keys`.
        if first < FIRST_PATH_BYTE or (
            prefix != size and not (0 <= prefix < size and first > before[prefix])
        ):
            raise CannotUndoError("tree keys have wrong order or prefixes")


def link_at(node: dict[str, Any], index: int) -> bytes | None:
    """Return the link before the entry at `index`, or after the last entry."""
    link: bytes | None = node["e"][index - 1]["t"] if index else node["l"]
    return link


def set_link(node: dict[str, Any], index: int, link: bytes | None) -> None:
    if index:
        node["e"][index - 1]["t"] = link
    else:
        node["l"] = link


def take_out(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Remove an entry and adapt the prefix of the next one."""
    following = index + 1
    if following < len(keys):
        check_prefix(entries, keys, following)
        entry = entries[following]
        # A prefix that the outer two of three sorted keys share, all three share.
        prefix = min(entry["p"], entries[index]["p"])
        entry["p"] = prefix
        entry["k"] = keys[following][prefix:]
    del keys[index], entries[index]


def cut_prefix(entries: list[dict[str, Any]], keys: list[bytes], index: int) -> None:
    """Adapt the prefix of the key at `index`, if any, to its predecessor."""
    if index < len(keys):
        key = keys[index]
        prefix = shared_prefix(keys[index - 1], key) if index else 0
        entry = entries[index]
        entry["p"] = prefix
        entry["k"] = key[prefix:]
