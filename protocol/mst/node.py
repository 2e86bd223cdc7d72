"""One node of a Merkle search tree, as bytes and as lists (specs/repository).

A node of n entries is three lists: n keys, the n CIDs they stand for, and n + 1 links
to the nodes before, between and behind the keys (None where there is none). Its level
is not written in it: all its keys hash to the same height, which is the level.

What is read must be the one canonical encoding of its content, byte for byte. Links to
nodes have to be blessed CIDs; a link to a record may be of another form and is kept as
it is (specs/repository, "CID formats").
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from libipld import decode_dag_cbor, encode_dag_cbor

from protocol.data.cbor_scan import scan
from protocol.data.cid import (
    CID_BYTES,
    DATA_PREFIX,
    cid_for,
    is_link,
)
from protocol.errors import (
    InvalidEncodingError,
    InvalidTreeError,
    LimitExceededError,
)
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_HEIGHT, MAX_TREE_KEY_BYTES

Links = list[bytes | None]
NodeContent = tuple[list[bytes], list[bytes], Links]

# {"e": [], "l": null}: the only node without entries that may end a tree.
EMPTY_NODE: Final = b"\xa2ae\x80al\xf6"
EMPTY_ROOT: Final = cid_for(EMPTY_NODE)

_DIGEST_BITS: Final = 256
_MAX_NODE_BYTES: Final = 64 + MAX_NODE_ENTRIES * (MAX_TREE_KEY_BYTES + 256)
# What is shorter takes no time, whatever is in it.
_UNSCANNED_BYTES: Final = 4_096
_NODE_DEPTH: Final = 3
# A map of two, an array, and a map of four for each entry.
_MAX_NODE_ITEMS: Final = 5 + (1 + 9) * (MAX_NODE_ENTRIES + 1)
_LINK_HEAD: Final = b"\xd8\x2a\x58\x25\x00"
# Bytes below this start every form of a CID, and no key that a path can be.
FIRST_PATH_BYTE: Final = 0x21

_number = int.from_bytes


def height(key: bytes) -> int:
    """The level a key belongs to: leading zero bits of its SHA-256, in pairs."""
    digest = sha256(key).digest()
    if digest[0] >= 0x40:
        return 0
    return (_DIGEST_BITS - int.from_bytes(digest, "big").bit_length()) // 2


def shared_prefix(left: bytes, right: bytes) -> int:
    """How many bytes two keys have in common at the start."""
    size = len(left)
    if size != len(right):
        size = min(size, len(right))
        left = left[:size]
        right = right[:size]
    differing = _number(left, "big") ^ _number(right, "big")
    return size - (differing.bit_length() + 7) // 8


def encode_node(
    keys: Sequence[bytes],
    values: Sequence[bytes],
    links: Sequence[bytes | None],
) -> bytes:
    """The bytes of a node; there is one link more than there are keys, which rise."""
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
    """The keys, values and links of a node.

    Verifies: canonical encoding, full keys in strict order, prefixes of their true
    length, blessed links to nodes. Does not verify: heights of keys, whether a node
    may be empty where it stands (both need the place in the tree).
    Raises InvalidTreeError, LimitExceededError for more than 256 entries or a key of
    more than 1,024 bytes.
    """
    node = decode_node(raw)
    keys = read_keys(raw, node)
    entries = node["e"]
    values = [entry["v"] for entry in entries]
    links = [entry["t"] for entry in entries]
    links.insert(0, node["l"])
    return keys, values, links


def decode_node(raw: bytes) -> Any:
    """What the bytes of a node hold, read loosely; `read_keys` tells if it is one."""
    if len(raw) > _MAX_NODE_BYTES:
        raise LimitExceededError("a node of the tree is too large")
    try:
        if len(raw) > _UNSCANNED_BYTES:
            scan(raw, max_depth=_NODE_DEPTH, max_items=_MAX_NODE_ITEMS)
        return decode_dag_cbor(raw)
    except (ValueError, RecursionError, InvalidEncodingError) as error:
        raise InvalidTreeError("not a node of a tree") from error


def read_keys(raw: bytes, node: Any) -> list[bytes]:
    """The keys of `node`, which is `decode_node(raw)`; verifies as `parse_node`."""
    keys: list[bytes] = []
    try:
        # Being encoded again to the same bytes proves the canonical form, if nothing
        # in the node is a byte string that libipld would take for a link.
        plain = encode_dag_cbor(node) == raw and len(node) == 2
        entries = node["e"]
        if type(entries) is not list:
            raise InvalidTreeError("not a node of a tree")
        if len(entries) > MAX_NODE_ENTRIES:
            raise LimitExceededError("too many entries in a node of the tree")
        key = b""
        size = 0
        for entry in entries:
            suffix = entry["k"]
            prefix = entry["p"]
            value = entry["v"]
            link = entry["t"]
            first = suffix[0]
            # The first byte that differs is greater: that is the order of the keys,
            # and the prefix could not have been longer.
            if prefix != size and not (0 <= prefix < size and first > key[prefix]):
                raise InvalidTreeError("keys out of order, or not cut to their ends")
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
                raise LimitExceededError("a key of the tree is too long")
            keys.append(key)
        if node["l"] is not None:
            _check_link(node["l"])
        if not plain and not _is_canonical(raw, node):
            raise InvalidTreeError("a node of the tree is not in canonical form")
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
    ) as error:
        raise InvalidTreeError("not a node of a tree") from error
    return keys


def node_level(keys: Sequence[bytes], links: Sequence[bytes | None]) -> int:
    """The level of a root node; raises InvalidTreeError for one that cannot be a root.

    A root without keys is the empty tree, of level 0; one that only points to another
    node must have been cut off. Raises LimitExceededError for a level above 40.
    """
    if not keys:
        if links[0] is not None:
            raise InvalidTreeError("the root of the tree has no entries")
        return 0
    level = height(keys[0])
    if level > MAX_TREE_HEIGHT:
        raise LimitExceededError("the tree is too high")
    return level


def check_level(
    keys: Sequence[bytes], links: Sequence[bytes | None], level: int
) -> None:
    """Raise InvalidTreeError unless a node may stand at `level`, and not be empty."""
    if not keys and links[0] is None:
        raise InvalidTreeError("an empty node inside the tree")
    if level == 0 and any(links):
        raise InvalidTreeError("a link below the lowest level of the tree")
    lowest, beyond = _LEVEL_DIGESTS[level]
    for key in keys:
        if not lowest <= sha256(key).digest() < beyond:
            raise InvalidTreeError("a key stands at the wrong level")


def _check_link(link: bytes) -> None:
    if len(link) != CID_BYTES or not link.startswith(DATA_PREFIX):
        raise InvalidTreeError("a link to a node that is no CID of a block")


def _is_canonical(raw: bytes, node: dict[str, Any]) -> bool:
    """Whether a node of unusual keys or links is written as `encode_node` would."""
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
    # An operation may name a link of any length; a tree holds none like it.
    if len(cid) >= _LONGEST_LINK:
        raise InvalidTreeError("a link too long for a node")
    return b"\xd8\x2a" + _head(0x40, len(cid) + 1) + b"\x00" + cid


def _head(major: int, number: int) -> bytes:
    """The first bytes of a CBOR item: `major` is its type, in the upper three bits."""
    if number < 24:
        return bytes((major | number,))
    if number < 0x100:
        return bytes((major | 24, number))
    return bytes((major | 25, number >> 8, number & 0xFF))


# The heads of suffixes and prefixes of every length, made once.
_SUFFIX_START: Final = tuple(
    b"\xa4ak" + _head(0x40, size) for size in range(MAX_TREE_KEY_BYTES + 1)
)
_PREFIX_ITEM: Final = tuple(
    b"ap" + _head(0x00, size) + b"at" for size in range(MAX_TREE_KEY_BYTES + 1)
)

# The lowest digest of each level, and the first that is beyond it.
_LEVEL_DIGESTS: Final = tuple(
    (
        (1 << _DIGEST_BITS - 2 * level - 2).to_bytes(32, "big"),
        # No digest of 32 bytes sorts behind 33 of the highest.
        (1 << _DIGEST_BITS - 2 * level).to_bytes(32, "big") if level else b"\xff" * 33,
    )
    for level in range(MAX_TREE_HEIGHT + 1)
)
