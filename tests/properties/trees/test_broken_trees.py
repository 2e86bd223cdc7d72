"""Trees that do not follow from their keys, by every way of reading them."""

from __future__ import annotations

import random

import pytest
from broken_trees import MUTATORS, plant, put_together, take_apart, tear_out
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tree_samples import BY_HEIGHT, Items, blocks_of, changed, items_of_trees, keys

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError, MissingBlockError, ProtocolError
from protocol.identity.keys import PrivateKey
from protocol.mst import TreeOp, build_root, invert
from protocol.mst.ranges import read_part
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did, Tid

KEY = PrivateKey("k256", b"\x03" * 32)
DID = Did("did:plc:" + "c" * 24)
REV = Tid("3jzfcijpj2z2a")
NOW_US = 4_000_000_000_000_000
SEEDS = 8


def broken(
    name: str, seed: int
) -> tuple[bytes, bytes, dict[bytes, bytes], Items, list[bytes]] | None:
    """Return (good root, broken root, broken blocks, items, records), or None."""
    rng = random.Random(f"{name} {seed}")
    levels = [rng.choice((0, 0, 0, 1, 1, 2, 3, 4)) for _ in range(rng.randrange(4, 40))]
    values = [rng.randbytes(4) for _ in levels]
    items = {
        rng.choice(BY_HEIGHT[level]): cid_for(value)
        for level, value in zip(levels, values, strict=True)
    }
    root, blocks = blocks_of(items)
    nodes = take_apart(blocks, root)
    same: dict[bytes, bytes] = {}
    assert put_together(nodes[0], same) == root
    if not MUTATORS[name](nodes, rng):
        return None
    wrong: dict[bytes, bytes] = {}
    wrong_root = put_together(nodes[0], wrong)
    return (root, wrong_root, wrong, items, values) if wrong_root != root else None


def read_repo(root: bytes, blocks: dict[bytes, bytes], values: list[bytes]) -> Items:
    """Return the items of a whole repo with that tree."""
    signed = sign_commit(DID, root, REV, KEY)
    reader = RepoReader(KEY.public, DID, NOW_US)
    pieces = [car_header(cid_for(signed)), car_block(cid_for(signed), signed)]
    pieces += [car_block(cid, raw) for cid, raw in reversed(blocks.items())]
    pieces += [car_block(cid_for(value), value) for value in values]
    found = [record for piece in pieces for record in reader.feed(piece)]
    assert reader.finish().data == root
    return {f"{r.collection}/{r.rkey}".encode(): r.cid for r in found}


@pytest.mark.parametrize("name", MUTATORS)
def test_broken_tree_is_refused_by_every_reader(name: str) -> None:
    tried = 0
    for seed in range(SEEDS):
        made = broken(name, seed)
        if made is None:
            continue
        tried += 1
        good_root, root, blocks, items, values = made
        assert read_repo(good_root, blocks_of(items)[1], values) == items
        with pytest.raises(InvalidTreeError):
            read_part(blocks.get, root)
        with pytest.raises(InvalidTreeError):
            read_repo(root, blocks, values)
    assert tried >= 2


@pytest.mark.parametrize("name", MUTATORS)
def test_broken_tree_is_refused_where_nodes_must_wait(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.repo.whole_repo._MAX_WANTED", 1)
    refusals: tuple[type[ProtocolError], ...] = (InvalidTreeError,)
    if name == "share_child":
        # A block handed out for one place is missing at the other.
        refusals = (InvalidTreeError, MissingBlockError)
    for seed in range(SEEDS):
        made = broken(name, seed)
        if made is not None:
            good_root, root, blocks, items, values = made
            assert read_repo(good_root, blocks_of(items)[1], values) == items
            with pytest.raises(refusals):
                read_repo(root, blocks, values)


@pytest.mark.parametrize("name", MUTATORS)
def test_commit_to_a_broken_tree_is_refused(name: str) -> None:
    # The operation matches the keys, and all nodes are given.
    tried = 0
    for seed in range(SEEDS):
        made = broken(name, seed)
        if made is None:
            continue
        _, root, blocks, items, _ = made
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
    assert tried >= 2


def test_subtree_on_the_wrong_side_of_a_new_key_is_refused() -> None:
    # Removing the key joins its sides, so both sides give the right older root. Only
    # the neighbours show that the new tree is wrong.
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
        # A careless reader would remove the key and check nothing else.
        del node.keys[index], node.values[index]
        node.children[index : index + 2] = [node.children[index + 1]]
        assert put_together(nodes[0], {}) == before
        for expected in (None, before):
            with pytest.raises(InvalidTreeError):
                invert(wrong, wrong_root, [op], expected)


@settings(max_examples=100)
@given(
    items_of_trees,
    st.lists(keys, min_size=1, max_size=3, unique=True),
    st.randoms(use_true_random=False),
)
def test_tree_that_does_not_follow_from_its_keys_is_refused(
    items: Items, changing: list[bytes], rng: random.Random
) -> None:
    # The older tree is valid, the operations match, and all nodes are given.
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


@settings(max_examples=100)
@given(
    st.sets(keys, min_size=1, max_size=40),
    st.lists(keys, min_size=1, max_size=3, unique=True),
    st.randoms(use_true_random=False),
)
def test_whole_repo_is_read_by_its_keys_or_refused(
    at_first: set[bytes], changing: list[bytes], rng: random.Random
) -> None:
    before, blocks = blocks_of({key: cid_for(key) for key in at_first})
    nodes = take_apart(blocks, before)
    for key in changing:
        (tear_out if key in at_first else plant)(nodes, rng, key)
    changed_blocks: dict[bytes, bytes] = {}
    root = put_together(nodes[0], changed_blocks)
    # Records of removed subtrees are not missed.
    values = sorted(at_first.union(changing))
    try:
        items = read_repo(root, changed_blocks, values)
    except InvalidTreeError:
        with pytest.raises(InvalidTreeError):
            read_part(changed_blocks.get, root)
        return
    assert build_root(sorted(items.items())) == root
    assert dict(read_part(changed_blocks.get, root).found) == items
