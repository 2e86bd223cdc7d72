from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from minimal_proof import minimal_proof
from tree_samples import (
    BY_HEIGHT,
    Items,
    blocks_of,
    changed,
    cids,
    items_of_trees,
    keys,
)

from protocol.data.cid import cid_for
from protocol.mst import Tree, TreeOp, build_root, height, invert

# A full binary tree of height 2, as in the published suite of tree differences.
FULL = [b"k/00", b"k/02", b"k/04", b"k/39", b"k/40", b"k/48", b"k/49"]
PAIRS = 128 * 127
PROOF_NODES = 49_249
"""Nodes in all minimal proofs of that suite, without those of an empty tree."""


def subsets() -> list[Items]:
    return [
        {key: cid_for(key) for key in chosen}
        for size in range(len(FULL) + 1)
        for chosen in combinations(FULL, size)
    ]


def test_minimal_proofs_of_all_pairs_of_small_trees_verify() -> None:
    assert [height(key) for key in FULL] == [0, 1, 0, 2, 0, 1, 0]
    trees = [(items, *blocks_of(items)) for items in subsets()]
    verified = nodes = 0
    for (before, old_root, _), (after, root, blocks) in product(trees, trees):
        ops = [
            TreeOp(key, after.get(key), before.get(key))
            for key in FULL
            if after.get(key) != before.get(key)
        ]
        if not ops:
            continue
        proof = minimal_proof(blocks.get, root, ops)
        nodes += len(proof)
        assert invert(proof, root, ops) == old_root
        assert invert(proof, root, ops, old_root) == old_root
        verified += 1
    assert (verified, nodes) == (PAIRS, PROOF_NODES)


@settings(max_examples=150)
@given(items_of_trees, st.dictionaries(keys, st.none() | cids, min_size=1, max_size=12))
def test_minimal_proof_of_any_commit_verifies(
    items: Items, changes: dict[bytes, bytes | None]
) -> None:
    after, ops = changed(items, changes)
    assume(ops and all(op.cid != op.prev for op in ops))
    before = build_root(sorted(items.items()))
    root, blocks = blocks_of(after)
    proof = minimal_proof(blocks.get, root, ops)
    for expected in (None, before):
        assert invert(proof, root, ops, expected) == before


def created_between(high: bytes, below: list[bytes]) -> tuple[Tree, TreeOp, bytes]:
    """Return the tree of `below` with `high` added, the operation, the older root."""
    tree = Tree({}.get)
    for key in below:
        tree.put(key, cid_for(key))
    before = tree.root()
    tree.put(high, cid_for(high))
    tree.root()
    return tree, TreeOp(high, cid_for(high), None), before


@pytest.mark.parametrize("quick", [False, True])
def test_created_key_without_its_neighbours_is_unchecked(quick: bool) -> None:
    high = BY_HEIGHT[2][5]
    below = [key for key in BY_HEIGHT[0][:40] if key < high] + BY_HEIGHT[3][:1]
    tree, op, before = created_between(high, below)
    blocks = tree.new_blocks()
    minimal = minimal_proof(blocks.get, tree.root(), [op])
    covering = tree.proof_blocks([high])
    assert len(minimal) < len(covering)
    expected = before if quick else None
    for proof, found in ((minimal, [high]), (covering, [])):
        unchecked: list[bytes] = []
        assert invert(proof, tree.root(), [op], expected, unchecked) == before
        assert unchecked == found


def test_get_of_an_absent_key_reads_no_further_than_its_level() -> None:
    items = {key: cid_for(key) for key in FULL}
    root, blocks = blocks_of(items)
    read: list[bytes] = []

    def get_block(cid: bytes) -> bytes | None:
        read.append(cid)
        return blocks.get(cid)

    absent = BY_HEIGHT[1][0]
    assert Tree(get_block, root).get(absent) is None
    assert len(read) == 2
    read.clear()
    assert Tree(get_block, root).get(BY_HEIGHT[3][0]) is None
    assert len(read) == 1
