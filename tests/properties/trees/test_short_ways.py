"""The short way of undoing operations, against a plain reading of the tree.

The plain reading makes the tree from a dictionary, as the specification says. Trees
are changed in their encoding and hashed again up to a signed root.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libipld import decode_dag_cbor, encode_dag_cbor

from protocol.data import cbor
from protocol.data.cid import BLOB_PREFIX, Cid, cid_for, raw_cid_for
from protocol.errors import ProtocolError
from protocol.mst import EMPTY_ROOT, Tree, TreeOp, invert
from protocol.mst import node as node_module
from protocol.mst.entries import CannotUndoError
from protocol.mst.invert import _undo_all
from protocol.mst.node import _MAX_NODE_BYTES, _UNSCANNED_BYTES
from protocol.mst.splice import _MOST_BYTES

Blocks = dict[bytes, bytes]
_MALFORMED = (LookupError, TypeError, ValueError)
Items = dict[bytes, bytes]


@cache
def level_of(key: bytes) -> int:
    bits = "".join(f"{byte:08b}" for byte in sha256(key).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def plain_root(items: Items, blocks: Blocks) -> bytes:
    """Return the root by the specification, without regard to speed."""
    if not items:
        return put(blocks, {"e": [], "l": None})
    link = plain_node(sorted(items), max(map(level_of, items)), items, blocks)
    assert link is not None
    return link.raw


def plain_node(
    keys: list[bytes], level: int, items: Items, blocks: Blocks
) -> Cid | None:
    if not keys:
        return None
    here = [key for key in keys if level_of(key) == level]
    between: list[list[bytes]] = [[] for _ in range(len(here) + 1)]
    for key in keys:
        if key not in here:
            between[sum(other < key for other in here)].append(key)
    links = [plain_node(part, level - 1, items, blocks) for part in between]
    entries: list[cbor.Value] = []
    before = b""
    for key, link in zip(here, links[1:], strict=True):
        shared = 0
        while key[:shared] == before[:shared] and shared <= min(len(key), len(before)):
            shared += 1
        shared -= 1
        entries.append(
            {"p": shared, "k": key[shared:], "v": Cid(items[key]), "t": link}
        )
        before = key
    return Cid(put(blocks, {"e": entries, "l": links[0]}))


def put(blocks: Blocks, node: cbor.Value) -> bytes:
    raw = cbor.encode(node)
    blocks[cid_for(raw)] = raw
    return cid_for(raw)


def is_tree(root: bytes, items: Items) -> bool:
    return plain_root(items, {}) == root


# Keys of every height up to 3, few enough that trees of one key, nodes without keys and
# tops that fall in come up all the time; and keys that go on as a link does.


def some_keys() -> list[bytes]:
    found: dict[int, list[bytes]] = {}
    for number in range(4_000):
        for key in (b"a.b.c/%d" % number, b"a.b.c/%x" % number):
            found.setdefault(level_of(key), []).append(key)
    plain = [key for level in range(4) for key in found[level][:12]]
    links = [
        key + ending
        for key in plain[:40:4]
        for ending in (b"\x01q\x12 " + b"a" * 32, b"\x12 " + b"b" * 32, b"\x01", b" ")
    ]
    return plain + links


KEYS = some_keys()
VALUES = [cid_for(b"%d" % number) for number in range(6)]
trees = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=24)
changes_of_trees = st.dictionaries(
    st.sampled_from(KEYS), st.none() | st.sampled_from(VALUES), min_size=1, max_size=22
)


def commit_of(items: Items, changes: dict[bytes, bytes | None]) -> list[TreeOp]:
    """Return the operations, and change `items`."""
    ops: list[TreeOp] = []
    for key, cid in changes.items():
        prev = items.pop(key, None)
        if cid is not None:
            items[key] = cid
        if cid != prev:
            ops.append(TreeOp(key, cid, prev))
    return ops


# Changes of one node that can be hashed again. Each returns other bytes, or None
# where it does not fit.

Harm = Callable[[dict[str, Any], random.Random], bytes | None]


def loose(node: Any) -> bytes:
    """Encode like `cbor.encode`, but keep byte strings that read as links."""
    return bytes(encode_dag_cbor(node))


def more_fields(node: dict[str, Any], rng: random.Random) -> bytes:
    name, value = rng.choice(("x", "ee")), rng.choice((None, [], 0, "e", [[]] * 9))
    rng.choice([node, node, *node["e"]])[name] = value
    return loose(node)


def fewer_fields(node: dict[str, Any], rng: random.Random) -> bytes:
    part = rng.choice([node, *node["e"]])
    del part[rng.choice(sorted(part))]
    return loose(node)


def other_link(node: dict[str, Any], rng: random.Random) -> bytes | None:
    places = [(part, name) for part, name in places_of(node) if part[name] is not None]
    if not places:
        return None
    part, name = rng.choice(places)
    digest = part[name][4:]
    part[name] = rng.choice(
        (BLOB_PREFIX + digest, b"\x12\x20" + digest, part[name] + b"\0", b"", digest)
    )
    return loose(node)


def link_elsewhere(node: dict[str, Any], rng: random.Random) -> bytes | None:
    places = [part[name] for part, name in places_of(node)]
    part, name = rng.choice(list(places_of(node)))
    part[name] = rng.choice([*places, EMPTY_ROOT, None, False, 0, ""])
    return loose(node)


def value_as_link(node: dict[str, Any], rng: random.Random) -> bytes | None:
    """Use a node below as a record, or a record as a node."""
    links = [part[name] for part, name in places_of(node) if part[name] is not None]
    if not links or not node["e"]:
        return None
    rng.choice(node["e"])["v"] = rng.choice(links)
    return loose(node)


def other_prefix(node: dict[str, Any], rng: random.Random) -> bytes | None:
    if not node["e"]:
        return None
    entry = rng.choice(node["e"])
    entry["p"] = rng.choice((entry["p"] + 1, entry["p"] - 1, float(entry["p"]), True))
    return loose(node)


def longer_suffix(node: dict[str, Any], rng: random.Random) -> bytes | None:
    """Write the same key with a shorter prefix."""
    key = b""
    found: list[tuple[dict[str, Any], bytes]] = []
    for entry in node["e"]:
        key = key[: entry["p"]] + entry["k"]
        if entry["p"]:
            found.append((entry, key))
    if not found:
        return None
    entry, key = rng.choice(found)
    entry["p"] = rng.randrange(entry["p"])
    entry["k"] = key[entry["p"] :]
    return loose(node)


def other_order(node: dict[str, Any], rng: random.Random) -> bytes | None:
    if len(node["e"]) < 2:
        return None
    index = rng.randrange(len(node["e"]) - 1)
    node["e"][index : index + 2] = node["e"][index : index + 2][::-1]
    return loose(node)


def entry_twice(node: dict[str, Any], rng: random.Random) -> bytes | None:
    if not node["e"]:
        return None
    index = rng.randrange(len(node["e"]))
    node["e"].insert(index, dict(node["e"][index]))
    return loose(node)


def entry_gone(node: dict[str, Any], rng: random.Random) -> bytes | None:
    if not node["e"]:
        return None
    del node["e"][rng.randrange(len(node["e"]))]
    return loose(node)


def as_bytes_or_links(node: dict[str, Any], rng: random.Random) -> bytes:
    """Write all links as byte strings or byte strings as links."""
    return loose(node)


def nothing_between(node: dict[str, Any], rng: random.Random) -> bytes | None:
    """Add an empty node."""
    free = [(part, name) for part, name in places_of(node) if part[name] is None]
    if not free:
        return None
    part, name = rng.choice(free)
    part[name] = EMPTY_ROOT
    return loose(node)


def other_bytes(node: dict[str, Any], rng: random.Random) -> bytes:
    raw = bytearray(loose(node))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw) + rng.choice((b"", b"", b"\0"))


HARMS: tuple[Harm, ...] = (
    *(more_fields, fewer_fields, other_link, link_elsewhere),
    *(value_as_link, other_prefix, longer_suffix, other_order),
    *(entry_twice, entry_gone, as_bytes_or_links, nothing_between),
    *(other_bytes,),
)


def places_of(node: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Return the places of links to nodes."""
    yield node, "l"
    for entry in node["e"]:
        yield entry, "t"


def harm_tree(
    root: bytes, blocks: Blocks, harm: Harm, rng: random.Random
) -> bytes | None:
    """Change one node and write the nodes above it again; return the root.

    `blocks` get the new nodes, under every CID that a link may have.
    """
    target = rng.choice(sorted(blocks))
    if rng.random() < 0.3:
        target = root
    changed = harm(decode_dag_cbor(blocks[target]), rng)
    if changed is None or changed == blocks[target]:
        return None
    above: dict[bytes, bytes] = {target: cid_for(changed)}
    blocks[cid_for(changed)] = changed
    put(blocks, {"e": [], "l": None})
    while root not in above:
        for cid, raw in list(blocks.items()):
            old = next((old for old in above if old in raw and cid not in above), None)
            if old is not None:
                anew = raw.replace(old, above[old])
                blocks[cid_for(anew)] = anew
                above[cid] = cid_for(anew)
    for raw in list(blocks.values()):
        blocks[raw_cid_for(raw)] = raw
        blocks[b"\x12\x20" + sha256(raw).digest()] = raw
    return above[root]


def proven(blocks: Blocks, root: bytes, ops: list[TreeOp], before: bytes) -> list[bool]:
    """Return the results of the strict, the chosen and the short way."""
    verdicts = []
    for expected in (None, before):
        unchecked: list[bytes] = []
        try:
            older = invert(blocks, root, ops, expected, unchecked)
            verdicts.append(older == before and not unchecked)
        except ProtocolError:
            verdicts.append(False)
    unchecked = []
    try:
        older = _undo_all(dict(blocks), root, ops, unchecked)
        verdicts.append(older == before and not unchecked)
    except (CannotUndoError, ProtocolError, RecursionError, *_MALFORMED):
        verdicts.append(False)
    return verdicts


@settings(max_examples=150)
@given(trees, changes_of_trees)
def test_valid_commits_are_proven_by_their_proof_alone(
    items: Items, changes: dict[bytes, bytes | None]
) -> None:
    blocks: Blocks = {}
    before = plain_root(items, blocks)
    tree = Tree(blocks.get, before)
    ops = commit_of(items, changes)
    for key, cid, _ in ops:
        if cid is None:
            tree.delete(key)
        else:
            tree.put(key, cid)
    assert is_tree(tree.root(), items)
    proof = tree.proof_blocks([op.key for op in ops])
    assert invert(proof, tree.root(), ops) == before
    assert invert(proof, tree.root(), ops, before) == before


def count_harms(harm: Harm, seeds: range) -> int:
    """Harm a tree after each seed, and verify it; return the number of harmed trees.

    The older tree is valid, and the operations match the new one except for the harm.
    """
    tried = 0
    for seed in seeds:
        rng = random.Random(f"{harm.__name__} {seed}")
        some = rng.sample(KEYS, 26 if rng.random() < 0.1 else rng.randrange(1, 8))
        if rng.random() < 0.5:
            some += [key for key in KEYS if key.startswith(some[0])]
        items = {key: rng.choice(VALUES) for key in dict.fromkeys(some)}
        older = dict(items)
        for key in rng.sample(sorted(items), rng.randrange(len(items) + 1)):
            del older[key]
        for key in rng.sample(KEYS, rng.choice((0, 0, 1, 2, 20))):
            if key not in items:
                older[key] = rng.choice(VALUES)
        changes = {key: items.get(key) for key in items.keys() | older.keys()}
        ops = commit_of(dict(older), changes)
        blocks: Blocks = {}
        root = harm_tree(plain_root(items, blocks), blocks, harm, rng)
        if not ops or root is None:
            continue
        tried += 1
        verdicts = proven(blocks, root, ops, plain_root(older, {}))
        if is_tree(root, items):
            assert verdicts[:2] == [True, True], (seed, ops)
        else:
            assert verdicts == [False, False, False], (seed, ops)
    return tried


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: str(harm.__name__))
def test_harmed_tree_is_never_proven(harm: Harm) -> None:
    assert count_harms(harm, range(250)) >= 5


@pytest.mark.long
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: str(harm.__name__))
def test_ten_thousand_harmed_trees_are_never_proven(harm: Harm) -> None:
    assert count_harms(harm, range(1_000, 11_000)) >= 250


@pytest.mark.parametrize("size", [3_000, 60_000, 300_000, 1_900_000])
@pytest.mark.parametrize("filling", [[[]], "x"], ids=["items", "text"])
def test_node_without_matching_keys_is_hardly_read(
    monkeypatch: pytest.MonkeyPatch, size: int, filling: Any
) -> None:
    read = 0

    def decode(raw: bytes) -> Any:
        nonlocal read
        read += len(raw)
        return decode_dag_cbor(raw)

    monkeypatch.setattr(node_module, "decode_dag_cbor", decode)
    items = {b"a.b.c/x%d" % n: VALUES[0] for n in range(17)}
    blocks: Blocks = {}
    node = decode_dag_cbor(blocks[plain_root(items, blocks)])
    for part in (node, node["e"][0]):
        part["x"] = filling * size
        crowded = loose(node)
        del part["x"]
        ops = [TreeOp(key, cid, None) for key, cid in list(items.items())[1:]]
        read = 0
        assert not any(proven({cid_for(crowded): crowded}, cid_for(crowded), ops, b""))
        # Three times the short way, twice the long one, which reads a node once.
        assert read <= 3 * _MOST_BYTES + 2 * _MAX_NODE_BYTES
        if filling != "x" and len(crowded) > _UNSCANNED_BYTES:
            assert read == 0
