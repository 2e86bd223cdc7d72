"""Nodes of a Merkle search tree, as bytes and as lists (specs/repository).

A node is three lists: n keys, their n CIDs, and n + 1 links to the nodes before,
between and after the keys (None for no node). All keys hash to the same height, the
level of the node. Only the canonical encoding is accepted. Links to nodes are blessed
CIDs; a record's CID may have another form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

from libipld import decode_dag_cbor, encode_dag_cbor

from protocol.data.cbor_scan import scan
from protocol.data.cid import CID_BYTES, DATA_PREFIX, cid_for, is_link
from protocol.errors import InvalidEncodingError, InvalidTreeError, LimitExceededError
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_HEIGHT, MAX_TREE_KEY_BYTES

Links = list[bytes | None]
NodeContent = tuple[list[bytes], list[bytes], Links]
GetBlock = Callable[[bytes], bytes | None]

# {"e": [], "l": null}: the empty tree.
EMPTY_NODE: Final = b"\xa2ae\x80al\xf6"
EMPTY_ROOT: Final = cid_for(EMPTY_NODE)

_DIGEST_BITS: Final = 256
_MAX_NODE_BYTES: Final = 64 + MAX_NODE_ENTRIES * (MAX_TREE_KEY_BYTES + 256)
# Shorter nodes are always cheap to decode.
_UNSCANNED_BYTES: Final = 4_096
_NODE_DEPTH: Final = 3
# A map of two, an array, and a map of four for each entry.
_MAX_NODE_ITEMS: Final = 5 + (1 + 9) * (MAX_NODE_ENTRIES + 1)
_LINK_HEAD: Final = b"\xd8\x2a\x58\x25\x00"
# Every form of a CID starts with a lower byte, and no path does.
FIRST_PATH_BYTE: Final = 0x21

_number = int.from_bytes


def height(key: bytes) -> int:
    """Return the level of a key: leading zero bits of its SHA-256, in pairs."""
    digest = sha256(key).digest()
    if digest[0] >= 0x40:
        return 0
    return (_DIGEST_BITS - int.from_bytes(digest, "big").bit_length()) // 2


def shared_prefix(left: bytes, right: bytes) -> int:
    """Return the length of the common prefix of two keys."""
    size = len(left)
    if size != len(right):
        size = min(size, len(right))
        left = left[:size]
        right = right[:size]
    differing = _number(left, "big") ^ _number(right, "big")
    return size - (differing.bit_length() + 7) // 8


def encode_node(
    keys: Sequence[bytes], values: Sequence[bytes], links: Sequence[bytes | None]
) -> bytes:
    """Return the bytes of a node with sorted keys and one link more than keys."""
    out = [b"\xa2ae", _head(0x80, len(keys))]
    previous = b""
    for index, key in enumerate(keys):
        prefix = shared_prefix(previous, key) if index else 0
        out += _encode_entry(key[prefix:], prefix, values[index], links[index + 1])
        previous = key
    first = links[0]
    out.append(b"al\xf6" if first is None else b"al" + _encode_link(first))
    return b"".join(out)


def parse_node(raw: bytes) -> NodeContent:
    """Return the keys, values and links of a node.

    Verifies canonical encoding, the order of keys, exact prefixes and blessed links.
    Does not verify the heights of keys or whether the node may be empty. Raises
    InvalidTreeError, or LimitExceededError for more than 256 entries or a key of over
    1,024 bytes.
    """
    node = decode_node(raw)
    keys = read_keys(raw, node)
    entries = node["e"]
    values = [entry["v"] for entry in entries]
    links = [entry["t"] for entry in entries]
    links.insert(0, node["l"])
    return keys, values, links


def decode_node(raw: bytes) -> Any:
    """Decode a node loosely; `read_keys` checks it."""
    if len(raw) > _MAX_NODE_BYTES:
        raise LimitExceededError("tree node is too large")
    try:
        if len(raw) > _UNSCANNED_BYTES:
            scan(raw, max_depth=_NODE_DEPTH, max_items=_MAX_NODE_ITEMS)
        return decode_dag_cbor(raw)
    except (ValueError, RecursionError, InvalidEncodingError) as error:
        raise InvalidTreeError("not a tree node") from error


def read_keys(raw: bytes, node: Any) -> list[bytes]:
    """Return the keys of `node`, decoded from `raw`; verifies as `parse_node`."""
    keys: list[bytes] = []
    try:
        # Encoding to the same bytes proves the canonical form, unless the node holds a
        # byte string that libipld encodes as a link.
        plain = encode_dag_cbor(node) == raw and len(node) == 2
        entries = node["e"]
        if type(entries) is not list:
            raise InvalidTreeError("not a tree node")
        if len(entries) > MAX_NODE_ENTRIES:
            raise LimitExceededError("tree node has too many entries")
        key = b""
        size = 0
        for entry in entries:
            suffix = entry["k"]
            prefix = entry["p"]
            value = entry["v"]
            link = entry["t"]
            first = suffix[0]
            # A greater first byte proves both the order and the length of the prefix.
            if prefix != size and not (0 <= prefix < size and first > key[prefix]):
                raise InvalidTreeError("tree keys have wrong order or prefixes")
            if (
                first < FIRST_PATH_BYTE
                or type(prefix) is not int
                or len(value) != CID_BYTES
                or not value.startswith(DATA_PREFIX)
                or len(entry) != 4
            ):
                plain = False
            if link is not None:
                _check_link(link)
            key = key[:prefix] + suffix
            size = len(key)
            if size > MAX_TREE_KEY_BYTES:
                raise LimitExceededError("tree key is too long")
            keys.append(key)
        if node["l"] is not None:
            _check_link(node["l"])
        if not plain and not _is_canonical(raw, node):
            raise InvalidTreeError("tree node is not in canonical form")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidTreeError("not a tree node") from error
    return keys


def node_level(keys: Sequence[bytes], links: Sequence[bytes | None]) -> int:
    """Return the level of a root node; raise InvalidTreeError if it cannot be a root.

    A root without keys is the empty tree, of level 0. Raises LimitExceededError for a
    level above 40.
    """
    if not keys:
        if links[0] is not None:
            raise InvalidTreeError("tree root has no entries")
        return 0
    level = height(keys[0])
    if level > MAX_TREE_HEIGHT:
        raise LimitExceededError("tree is too high")
    return level


def check_level(
    keys: Sequence[bytes], links: Sequence[bytes | None], level: int
) -> None:
    """Raise InvalidTreeError unless a node may stand at `level` and is not empty."""
    if not keys and links[0] is None:
        raise InvalidTreeError("empty node inside the tree")
    if level == 0 and any(links):
        raise InvalidTreeError("link below the lowest level of the tree")
    lowest, beyond = _LEVEL_DIGESTS[level]
    for key in keys:
        if not lowest <= sha256(key).digest() < beyond:
            raise InvalidTreeError("tree key stands at the wrong level")


def _check_link(link: bytes) -> None:
    if len(link) != CID_BYTES or not link.startswith(DATA_PREFIX):
        raise InvalidTreeError("link to a node is not the CID of a block")


def _is_canonical(raw: bytes, node: dict[str, Any]) -> bool:
    """Return True if a node with unusual keys or links is in canonical form."""
    out = [b"\xa2ae", _head(0x80, len(node["e"]))]
    for entry in node["e"]:
        if type(entry["v"]) is not bytes or not is_link(entry["v"]):
            return False
        out += _encode_entry(entry["k"], entry["p"], entry["v"], entry["t"])
    first = node["l"]
    out.append(b"al\xf6" if first is None else b"al" + _encode_link(first))
    return b"".join(out) == raw


_LONGEST_LINK: Final = 0xFFFF


def _encode_entry(
    suffix: bytes, prefix: int, value: bytes, link: bytes | None
) -> tuple[bytes, ...]:
    return (
        _SUFFIX_START[len(suffix)],
        suffix,
        _PREFIX_ITEM[prefix],
        b"\xf6av" if link is None else _LINK_HEAD + link + b"av",
        _LINK_HEAD + value if len(value) == CID_BYTES else _encode_link(value),
    )


def _encode_link(cid: bytes) -> bytes:
    # An operation may name a longer link, which no tree holds.
    if len(cid) >= _LONGEST_LINK:
        raise InvalidTreeError("link is too long for a tree node")
    return b"\xd8\x2a" + _head(0x40, len(cid) + 1) + b"\x00" + cid


def _head(major: int, number: int) -> bytes:
    """Return the head of a CBOR item; `major` is its type in the upper three bits."""
    if number < 24:
        return bytes((major | number,))
    if number < 0x100:
        return bytes((major | 24, number))
    return bytes((major | 25, number >> 8, number & 0xFF))


# The heads of suffixes and prefixes of every length.
_SUFFIX_START: Final = tuple(
    b"\xa4ak" + _head(0x40, size) for size in range(MAX_TREE_KEY_BYTES + 1)
)
_PREFIX_ITEM: Final = tuple(
    b"ap" + _head(0x00, size) + b"at" for size in range(MAX_TREE_KEY_BYTES + 1)
)

# The lowest digest of each level, and the first above it.
_LEVEL_DIGESTS: Final = tuple(
    (
        (1 << _DIGEST_BITS - 2 * level - 2).to_bytes(32, "big"),
        # Above every digest of 32 bytes.
        (1 << _DIGEST_BITS - 2 * level).to_bytes(32, "big") if level else b"\xff" * 33,
    )
    for level in range(MAX_TREE_HEIGHT + 1)
)
