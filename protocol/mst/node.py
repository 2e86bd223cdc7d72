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
from typing import Final

from libipld import decode_dag_cbor, encode_dag_cbor

from protocol.cid import CID_BYTES, DATA_PREFIX, cid_for, is_link
from protocol.errors import InvalidTreeError, LimitExceededError
from protocol.limits import MAX_NODE_ENTRIES, MAX_TREE_HEIGHT, MAX_TREE_KEY_BYTES

Links = list[bytes | None]
NodeContent = tuple[list[bytes], list[bytes], Links]

# {"e": [], "l": null}: the only node without entries that may end a tree.
EMPTY_NODE: Final = b"\xa2ae\x80al\xf6"
EMPTY_ROOT: Final = cid_for(EMPTY_NODE)

_DIGEST_BITS: Final = 256
_MAX_NODE_BYTES: Final = 64 + MAX_NODE_ENTRIES * (MAX_TREE_KEY_BYTES + 256)
# Bytes below this start every form of a CID, and no key that a path can be.
_FIRST_PATH_BYTE: Final = 0x21
_LINK_HEAD: Final = b"\xd8\x2a\x58\x25\x00"


def height(key: bytes) -> int:
    """The level a key belongs to: leading zero bits of its SHA-256, in pairs."""
    digest = sha256(key).digest()
    if digest[0] >= 0x40:
        return 0
    return (_DIGEST_BITS - int.from_bytes(digest, "big").bit_length()) // 2


def shared_prefix(left: bytes, right: bytes) -> int:
    """How many bytes two keys have in common at the start."""
    size = min(len(left), len(right))
    left = left[:size]
    right = right[:size]
    if left == right:
        return size
    differing = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return size - (differing.bit_length() + 7) // 8


def encode_node(
    keys: Sequence[bytes],
    values: Sequence[bytes],
    links: Sequence[bytes | None],
) -> bytes:
    """The bytes of a node; there is one link more than there are keys."""
    out = [b"\xa2ae", _head(0x80, len(keys))]
    previous = b""
    for index, key in enumerate(keys):
        prefix = shared_prefix(previous, key)
        suffix = key[prefix:]
        link = links[index + 1]
        out += (
            b"\xa4ak",
            _head(0x40, len(suffix)),
            suffix,
            b"ap",
            _head(0x00, prefix),
            b"at\xf6av" if link is None else b"at" + _encode_link(link) + b"av",
            _encode_link(values[index]),
        )
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
    if len(raw) > _MAX_NODE_BYTES:
        raise LimitExceededError("a node of the tree is too large")
    try:
        node = decode_dag_cbor(raw)
        entries = node["e"]
        if len(entries) > MAX_NODE_ENTRIES:
            raise LimitExceededError("too many entries in a node of the tree")
        keys: list[bytes] = []
        values: list[bytes] = []
        links: Links = [node["l"]]
        # Being encoded again to the same bytes proves the canonical form, if nothing
        # in the node is a byte string that libipld would take for a link.
        plain = encode_dag_cbor(node) == raw and len(node) == 2
        previous = b""
        for entry in entries:
            prefix = entry["p"]
            suffix = entry["k"]
            if not 0 <= prefix <= len(previous):
                raise InvalidTreeError("a prefix longer than the key before")
            key = previous[:prefix] + suffix
            if key <= previous:
                raise InvalidTreeError("keys of a node are not in order")
            value = entry["v"]
            if (
                type(prefix) is not int
                or suffix[0] < _FIRST_PATH_BYTE
                or (prefix < len(previous) and suffix[0] == previous[prefix])
                or len(value) != CID_BYTES
                or value[:4] != DATA_PREFIX
                or len(entry) != 4
            ):
                plain = False
            keys.append(key)
            values.append(value)
            links.append(entry["t"])
            previous = key
        for link in links:
            if link is not None and (len(link) != CID_BYTES or link[:4] != DATA_PREFIX):
                raise InvalidTreeError("a link to a node that is no CID of a block")
        for key in keys:
            if len(key) > MAX_TREE_KEY_BYTES:
                raise LimitExceededError("a key of the tree is too long")
        if not plain and not _is_canonical(raw, keys, values, links):
            raise InvalidTreeError("a node of the tree is not in canonical form")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InvalidTreeError("not a node of a tree") from error
    return keys, values, links


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
    """Raise InvalidTreeError unless a node that is no root may stand at `level`."""
    if not keys and links[0] is None:
        raise InvalidTreeError("an empty node inside the tree")
    check_heights(keys, level)
    if level == 0 and any(link is not None for link in links):
        raise InvalidTreeError("a link below the lowest level of the tree")


def check_heights(keys: Sequence[bytes], level: int) -> None:
    """Raise InvalidTreeError unless all keys belong to `level`."""
    if level == 0:
        for key in keys:
            if sha256(key).digest()[0] < 0x40:
                raise InvalidTreeError("a key stands at the wrong level")
        return
    for key in keys:
        if height(key) != level:
            raise InvalidTreeError("a key stands at the wrong level")


def _is_canonical(
    raw: bytes, keys: list[bytes], values: list[bytes], links: Links
) -> bool:
    return (
        all(type(value) is bytes and is_link(value) for value in values)
        and encode_node(keys, values, links) == raw
    )


def _encode_link(cid: bytes) -> bytes:
    if len(cid) == CID_BYTES:
        return _LINK_HEAD + cid
    return b"\xd8\x2a" + _head(0x40, len(cid) + 1) + b"\x00" + cid


def _head(major: int, number: int) -> bytes:
    """The first bytes of a CBOR item: `major` is its type, in the upper three bits."""
    if number < 24:
        return bytes((major | number,))
    if number < 0x100:
        return bytes((major | 24, number))
    return bytes((major | 25, number >> 8, number & 0xFF))
