from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from broken_trees import MUTATORS, LooseNode, put_together, take_apart
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from libipld import decode_dag_cbor

from protocol.car import car_block, car_header
from protocol.cid import cid_for
from protocol.commit import sign_commit
from protocol.errors import InvalidTreeError, MissingBlockError, ProtocolError
from protocol.keys import PrivateKey
from protocol.mst import (
    EMPTY_ROOT,
    Tree,
    TreeOp,
    build_nodes,
    build_root,
    diff,
    height,
    invert,
    node,
    splice,
    walk,
)
from protocol.mst.splice import Undoing
from protocol.repo import RepoReader
from protocol.syntax import Did, Tid

Items = dict[bytes, bytes]
KEY = PrivateKey("k256", b"\x03" * 32)
DID = Did("did:plc:" + "c" * 24)
REV = Tid("3jzfcijpj2z2a")

# Keys by height, so that high trees of few keys come up often.
BY_HEIGHT: dict[int, list[bytes]] = {}
for number in range(12_000):
    candidate = b"test.app/%05d" % (number * 7919 % 100_000)
    BY_HEIGHT.setdefault(height(candidate), []).append(candidate)

keys = st.integers(0, 4).flatmap(lambda level: st.sampled_from(BY_HEIGHT[level][:60]))
cids = st.integers(0, 10**6).map(lambda number: cid_for(b"%d" % number))
items_of_trees = st.dictionaries(keys, cids, max_size=40)


def blocks_of(items: Items) -> tuple[bytes, dict[bytes, bytes]]:
    nodes = list(build_nodes(sorted(items.items())))
    return nodes[-1].cid, {node.cid: node.raw for node in nodes}


def stored(items: Items) -> Tree:
    root, blocks = blocks_of(items)
    return Tree(blocks.get, root)


def changed(
    items: Items, changes: dict[bytes, bytes | None]
) -> tuple[Items, list[TreeOp]]:
    """The items after some changes (None deletes), and the operations that did it."""
    after = dict(items)
    ops = []
    for key, cid in changes.items():
        prev = after.pop(key, None)
        if cid is not None:
            after[key] = cid
        if cid is not None or prev is not None:
            ops.append(TreeOp(key, cid, prev))
    return after, ops


def commit_of(
    items: Items, changes: dict[bytes, bytes | None]
) -> tuple[bytes, bytes, dict[bytes, bytes], list[TreeOp]]:
    """(old root, new root, covering proof, operations) of a commit."""
    tree = stored(items)
    before = tree.root()
    after, ops = changed(items, changes)
    for key, cid, _ in ops:
        if cid is None:
            tree.delete(key)
        else:
            tree.put(key, cid)
    proof = tree.proof_blocks([op.key for op in ops])
    assert tree.root() == build_root(sorted(after.items()))
    return before, tree.root(), proof, ops


@settings(max_examples=60, deadline=None)
@given(items_of_trees, st.randoms(use_true_random=False), st.lists(keys, max_size=15))
def test_any_order_of_changes_gives_the_tree_of_its_items(
    items: Items, rng: random.Random, gone: list[bytes]
) -> None:
    tree = Tree({}.get)
    for key in gone:
        tree.put(key, cid_for(b"gone"))
    steps: list[tuple[bytes, bytes | None]] = [*items.items()]
    steps += [(key, None) for key in gone if key not in items]
    rng.shuffle(steps)
    for key, cid in steps:
        if cid is None:
            tree.delete(key)
        else:
            tree.put(key, cid)
    root, blocks = blocks_of(items)
    assert tree.root() == root
    new = tree.new_blocks()
    assert new == blocks
    assert dict(walk(new.get, root)) == items


@settings(max_examples=60, deadline=None)
@given(items_of_trees, st.dictionaries(keys, st.none() | cids, min_size=1, max_size=12))
def test_inversion_needs_the_covering_proof_and_nothing_else(
    items: Items, changes: dict[bytes, bytes | None]
) -> None:
    before, after, proof, ops = commit_of(items, changes)
    assert invert(proof, after, ops) == before
    assert invert(proof, after, ops, before) == before
    assert invert(proof, after, ops[::-1]) == before


@settings(max_examples=200, deadline=None)
@given(items_of_trees, st.dictionaries(keys, st.none() | cids, min_size=1, max_size=12))
def test_operations_are_undone_in_the_short_way(
    items: Items, changes: dict[bytes, bytes | None]
) -> None:
    before, after, proof, ops = commit_of(items, changes)
    assume(all(op.cid != op.prev for op in ops))
    undoing = Undoing(dict(proof), after)
    for op in sorted(ops):
        undoing.undo(*op)
    assert undoing.root() == before


@settings(max_examples=60, deadline=None)
@given(items_of_trees, st.dictionaries(keys, st.none() | cids, min_size=1, max_size=6))
def test_nodes_missing_from_the_proof_never_matter_silently(
    items: Items, changes: dict[bytes, bytes | None]
) -> None:
    before, after, proof, ops = commit_of(items, changes)
    for cid in proof:
        part = {other: raw for other, raw in proof.items() if other != cid}
        for expected in (None, before):
            try:
                assert invert(part, after, ops, expected) == before
            except MissingBlockError:
                continue


def drop_one(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [op for op in ops if op is not ops[0]]


def double_one(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [*ops, rng.choice(ops)]


def repeat_key(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    op = rng.choice(ops)
    return [*ops, TreeOp(op.key, op.cid, cid_for(b"other"))]


def extra_create(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [*ops, TreeOp(key, cid_for(b"extra"), None)]


def extra_delete(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [*ops, TreeOp(key, None, cid_for(b"extra"))]


def extra_update(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [*ops, TreeOp(key, cid_for(b"extra"), cid_for(b"more"))]


def empty_op(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [*ops, TreeOp(key, None, None)]


def other_cid(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [
        op if op.cid is None else TreeOp(op.key, cid_for(b"lie"), op.prev) for op in ops
    ]


def other_prev(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [
        op if op.prev is None else TreeOp(op.key, op.cid, cid_for(b"lie")) for op in ops
    ]


def create_as_update(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [
        TreeOp(op.key, op.cid, cid_for(b"lie")) if op.prev is None else op for op in ops
    ]


def update_as_create(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [TreeOp(op.key, op.cid, None) if op.cid is not None else op for op in ops]


def delete_as_update(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [
        TreeOp(op.key, cid_for(b"lie"), op.prev) if op.cid is None else op for op in ops
    ]


def swap_sides(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [TreeOp(op.key, op.prev, op.cid) for op in ops]


def other_key(ops: list[TreeOp], rng: random.Random, key: bytes) -> list[TreeOp]:
    return [TreeOp(key, ops[0].cid, ops[0].prev), *ops[1:]]


LIES: tuple[Callable[[list[TreeOp], random.Random, bytes], list[TreeOp]], ...] = (
    drop_one,
    double_one,
    repeat_key,
    extra_create,
    extra_delete,
    extra_update,
    empty_op,
    other_cid,
    other_prev,
    create_as_update,
    update_as_create,
    delete_as_update,
    swap_sides,
    other_key,
)


@settings(max_examples=120, deadline=None)
@given(
    items_of_trees,
    st.dictionaries(keys, st.none() | cids, min_size=1, max_size=5),
    st.sampled_from(LIES),
    keys,
    st.randoms(use_true_random=False),
)
def test_operations_that_lie_never_give_the_older_root(
    items: Items,
    changes: dict[bytes, bytes | None],
    lie: Callable[[list[TreeOp], random.Random, bytes], list[TreeOp]],
    key: bytes,
    rng: random.Random,
) -> None:
    before, after, proof, ops = commit_of(items, changes)
    assume(ops)
    # A replacement by the same CID is a true operation that may be left out.
    assume(all(op.cid != op.prev for op in ops))
    lies = lie(ops, rng, key)
    assume(Counter(lies) != Counter(ops))
    _, blocks = blocks_of(changed(items, changes)[0])
    for at_hand in (proof, blocks):
        for expected in (None, before):
            try:
                assert invert(at_hand, after, lies, expected) != before
            except (InvalidTreeError, MissingBlockError):
                continue


@settings(max_examples=60, deadline=None)
@given(items_of_trees, items_of_trees)
def test_difference_leads_from_one_tree_to_the_other(old: Items, new: Items) -> None:
    root, blocks = blocks_of(old)
    new_root, new_blocks = blocks_of(new)
    ops = list(diff((blocks | new_blocks).get, root, new_root))
    assert [op.key for op in ops] == sorted(
        key for key in old.keys() | new.keys() if old.get(key) != new.get(key)
    )
    assert invert(new_blocks, new_root, ops) == root


def broken(
    name: str, seed: int
) -> tuple[bytes, bytes, dict[bytes, bytes], Items] | None:
    """(good root, broken root, broken blocks, items) of a tree broken in one way."""
    rng = random.Random(f"{name} {seed}")
    levels = [rng.choice((0, 0, 0, 1, 1, 2, 3, 4)) for _ in range(rng.randrange(4, 40))]
    items = {rng.choice(BY_HEIGHT[n]): cid_for(rng.randbytes(4)) for n in levels}
    root, blocks = blocks_of(items)
    nodes = take_apart(blocks, root)
    same: dict[bytes, bytes] = {}
    assert put_together(nodes[0], same) == root
    if not MUTATORS[name](nodes, rng):
        return None
    wrong: dict[bytes, bytes] = {}
    wrong_root = put_together(nodes[0], wrong)
    return (root, wrong_root, wrong, items) if wrong_root != root else None


def read_all(reader: RepoReader, pieces: list[bytes]) -> None:
    for piece in pieces:
        reader.feed(piece)
    reader.finish()


@pytest.mark.parametrize("name", MUTATORS)
def test_broken_tree_is_refused_by_every_reader(name: str) -> None:
    tried = 0
    for seed in range(20):
        made = broken(name, seed)
        if made is None:
            continue
        tried += 1
        _, root, blocks, _ = made
        with pytest.raises((InvalidTreeError, MissingBlockError)):
            list(walk(blocks.get, root))
        signed = sign_commit(DID, root, REV, KEY)
        reader = RepoReader(KEY.public, DID)
        pieces = [car_header(cid_for(signed)), car_block(cid_for(signed), signed)]
        pieces += [car_block(cid, raw) for cid, raw in reversed(blocks.items())]
        with pytest.raises((InvalidTreeError, MissingBlockError)):
            read_all(reader, pieces)
    assert tried >= 5


@pytest.mark.parametrize("name", MUTATORS)
def test_commit_to_a_broken_tree_is_refused(name: str) -> None:
    # The new tree is broken, the older one whole; the operation tells the truth about
    # the keys, and all nodes are at hand.
    tried = 0
    for seed in range(20):
        made = broken(name, seed)
        if made is None:
            continue
        _, root, blocks, items = made
        rng = random.Random(seed)
        ops = [TreeOp(key, cid, None) for key, cid in items.items()]
        ops += [TreeOp(key, cid, cid_for(b"older")) for key, cid in items.items()]
        gone = [key for level in range(5) for key in rng.sample(BY_HEIGHT[level], 4)]
        ops += [
            TreeOp(key, None, cid_for(b"older")) for key in gone if key not in items
        ]
        for op in ops:
            older = {key: cid for key, cid in items.items() if key != op.key}
            if op.prev is not None:
                older[op.key] = op.prev
            before = build_root(sorted(older.items()))
            for expected in (None, before):
                try:
                    given_back = invert(blocks, root, [op], expected)
                except ProtocolError:
                    continue
                assert given_back != before
        tried += 1
    assert tried >= 5


def test_subtree_on_the_wrong_side_of_a_created_key_is_refused() -> None:
    # Taking the key away joins what is on its sides, so both sides give the right
    # older root. Only looking at the neighbours tells that the new tree is wrong.
    high = BY_HEIGHT[2][0]
    for below in (0, 1):
        side = [key for key in BY_HEIGHT[below][:40] if key < high]
        far = [key for key in BY_HEIGHT[3] if key > high][:1]
        items = {key: cid_for(key) for key in side + far}
        before = build_root(sorted(items.items()))
        root, blocks = blocks_of(items | {high: cid_for(high)})
        op = TreeOp(high, cid_for(high), None)
        assert invert(blocks, root, [op], before) == before
        nodes = take_apart(blocks, root)
        node = next(node for node in nodes if high in node.keys)
        index = node.keys.index(high)
        children = node.children
        assert children[index] is not None
        assert children[index + 1] is None
        children[index], children[index + 1] = children[index + 1], children[index]
        wrong: dict[bytes, bytes] = {}
        wrong_root = put_together(nodes[0], wrong)
        # What a careless reader would do: take the key out, look at nothing else.
        del node.keys[index], node.values[index]
        node.children[index : index + 2] = [node.children[index + 1]]
        assert put_together(nodes[0], {}) == before
        for expected in (None, before):
            with pytest.raises(InvalidTreeError):
                invert(wrong, wrong_root, [op], expected)


def plant(nodes: list[LooseNode], rng: random.Random, key: bytes) -> None:
    """Put a key into any node, mostly where it fits in among the others."""
    node = rng.choice([nodes[0], rng.choice(nodes)])
    index = bisect_left(node.keys, key)
    if rng.random() < 0.1:
        index = rng.randrange(len(node.keys) + 1)
    node.keys.insert(index, key)
    node.values.insert(index, cid_for(key))
    node.children.insert(index + rng.randrange(2), None)


def tear_out(nodes: list[LooseNode], rng: random.Random, key: bytes) -> None:
    """Take a key out, and do any thing with what hangs on its sides."""
    node = next(node for node in nodes if key in node.keys)
    index = node.keys.index(key)
    del node.keys[index], node.values[index]
    left, right = node.children[index : index + 2]
    joined = rng.choice([left, right, None])
    if rng.random() < 0.3:
        joined = LooseNode(node.level - 1, [], [], [joined])
    if isinstance(left, LooseNode) and isinstance(right, LooseNode):
        merged = LooseNode(
            left.level,
            left.keys + right.keys,
            left.values + right.values,
            [
                *left.children[:-1],
                rng.choice([None, left.children[-1]]),
                *right.children[1:],
            ],
        )
        joined = rng.choice([joined, merged])
    node.children[index : index + 2] = [joined]


@settings(max_examples=300, deadline=None)
@given(
    items_of_trees,
    st.lists(keys, min_size=1, max_size=3, unique=True),
    st.randoms(use_true_random=False),
)
def test_tree_that_is_not_the_one_of_its_keys_is_refused(
    items: Items, changing: list[bytes], rng: random.Random
) -> None:
    # The older tree is whole, the operations are true, all nodes are at hand; often
    # leaving them out again is all that it takes to get the older tree back.
    assume(items)
    before, blocks = blocks_of(items)
    nodes = take_apart(blocks, before)
    changes = {key: None if key in items else cid_for(key) for key in changing}
    for key, cid in changes.items():
        (tear_out if cid is None else plant)(nodes, rng, key)
    after, ops = changed(items, changes)
    wrong: dict[bytes, bytes] = {}
    root = put_together(nodes[0], wrong)
    assume(root != build_root(sorted(after.items())))
    for expected in (None, before):
        try:
            given_back = invert(wrong | blocks, root, ops, expected)
        except (InvalidTreeError, MissingBlockError):
            continue
        assert given_back != before


def test_operations_in_one_large_node_do_not_multiply_with_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = 0

    def count(raw: bytes) -> Any:
        nonlocal read
        read += len(raw)
        return decode_dag_cbor(raw)

    monkeypatch.setattr(splice, "decode_dag_cbor", count)
    monkeypatch.setattr(node, "decode_dag_cbor", count)
    items = {key: cid_for(key) for key in BY_HEIGHT[0][:56]}
    created: dict[bytes, bytes | None] = {k: cid_for(k) for k in BY_HEIGHT[0][56:256]}
    before, after, proof, ops = commit_of(items, created)
    read = 0
    assert invert(proof, after, ops, before) == before
    assert 0 < read < 20 * sum(map(len, proof.values()))


def test_no_operations_leave_the_tree() -> None:
    assert invert({}, EMPTY_ROOT, []) == EMPTY_ROOT
