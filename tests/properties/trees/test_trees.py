from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from libipld import decode_dag_cbor
from tree_samples import (
    BY_HEIGHT,
    Items,
    blocks_of,
    changed,
    cids,
    commit_of,
    items_of_trees,
    keys,
)

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError, MissingBlockError
from protocol.mst import EMPTY_ROOT, Tree, TreeOp, invert, node
from protocol.mst.ranges import read_part
from protocol.mst.splice import Undoing


@settings(max_examples=60)
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
    part = read_part(new.get, root)
    assert not part.missing
    assert dict(part.found) == items


@settings(max_examples=60)
@given(items_of_trees, st.dictionaries(keys, st.none() | cids, min_size=1, max_size=12))
def test_inversion_needs_the_covering_proof_and_nothing_else(
    items: Items, changes: dict[bytes, bytes | None]
) -> None:
    before, after, proof, ops = commit_of(items, changes)
    assert invert(proof, after, ops) == before
    assert invert(proof, after, ops, before) == before
    assert invert(proof, after, ops[::-1]) == before


@settings(max_examples=200)
@given(items_of_trees, st.dictionaries(keys, st.none() | cids, min_size=1, max_size=12))
def test_operations_are_undone_in_the_short_way(
    items: Items, changes: dict[bytes, bytes | None]
) -> None:
    before, after, proof, ops = commit_of(items, changes)
    assume(all(op.cid != op.prev for op in ops))
    undoing = Undoing(dict(proof), after, [])
    for op in sorted(ops):
        undoing.undo(*op)
    assert undoing.root() == before


@settings(max_examples=60)
@given(items_of_trees, st.dictionaries(keys, st.none() | cids, min_size=1, max_size=6))
def test_nodes_missing_from_the_proof_are_reported(
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


@settings(max_examples=120)
@given(
    items_of_trees,
    st.dictionaries(keys, st.none() | cids, min_size=1, max_size=5),
    st.sampled_from(LIES),
    keys,
    st.randoms(use_true_random=False),
)
def test_false_operations_never_give_the_older_root(
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


@settings(max_examples=60)
@given(items_of_trees, items_of_trees)
def test_invert_undoes_the_difference_of_two_trees(old: Items, new: Items) -> None:
    new_root, new_blocks = blocks_of(new)
    ops = [
        TreeOp(key, new.get(key), old.get(key))
        for key in old.keys() | new.keys()
        if old.get(key) != new.get(key)
    ]
    assert invert(new_blocks, new_root, ops) == blocks_of(old)[0]


def test_operations_in_one_large_node_do_not_multiply_with_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = 0

    def count(raw: bytes) -> Any:
        nonlocal read
        read += len(raw)
        return decode_dag_cbor(raw)

    monkeypatch.setattr(node, "decode_dag_cbor", count)
    items = {key: cid_for(key) for key in BY_HEIGHT[0][:56]}
    created: dict[bytes, bytes | None] = {k: cid_for(k) for k in BY_HEIGHT[0][56:256]}
    before, after, proof, ops = commit_of(items, created)
    read = 0
    assert invert(proof, after, ops, before) == before
    assert 0 < read < 20 * sum(map(len, proof.values()))


def test_no_operations_leave_the_tree() -> None:
    assert invert({}, EMPTY_ROOT, []) == EMPTY_ROOT
