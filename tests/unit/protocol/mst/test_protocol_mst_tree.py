from __future__ import annotations

import random

import pytest

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError, LimitExceededError, MissingBlockError
from protocol.mst import (
    EMPTY_NODE,
    EMPTY_ROOT,
    Tree,
    TreeOp,
    build_nodes,
    build_root,
    diff,
    encode_node,
    find_proven,
    height,
    parse_node,
    prove,
    walk,
    walk_nodes,
)

Items = dict[bytes, bytes]


def made(count: int, seed: int = 1) -> Items:
    rng = random.Random(seed)
    return {
        b"c/%d" % rng.randrange(10**9): cid_for(rng.randbytes(4)) for _ in range(count)
    }


def blocks_of(items: Items) -> tuple[bytes, dict[bytes, bytes]]:
    nodes = list(build_nodes(sorted(items.items())))
    return nodes[-1].cid, {node.cid: node.raw for node in nodes}


def stored(items: Items) -> Tree:
    root, blocks = blocks_of(items)
    return Tree(blocks.get, root)


def test_empty_tree() -> None:
    tree = Tree({}.get)
    assert tree.root() == EMPTY_ROOT == build_root([])
    assert tree.get(b"a") is None
    assert tree.delete(b"a") is None
    assert tree.new_blocks() == tree.proof_blocks([b"a"]) == {EMPTY_ROOT: EMPTY_NODE}
    assert list(walk({EMPTY_ROOT: EMPTY_NODE}.get, EMPTY_ROOT)) == []


def test_put_get_delete() -> None:
    one, two = cid_for(b"1"), cid_for(b"2")
    tree = Tree({}.get)
    assert tree.put(b"a", one) is None
    assert tree.put(b"a", two) == one
    assert tree.get(b"a") == two
    assert tree.get(b"b") is None
    assert tree.delete(b"b") is None
    assert tree.delete(b"a") == two
    assert tree.root() == EMPTY_ROOT


def test_tree_read_from_blocks_is_the_same() -> None:
    items = made(400)
    root, blocks = blocks_of(items)
    tree = Tree(blocks.get, root)
    assert tree.root() == root
    assert tree.new_blocks() == {}
    assert {key: tree.get(key) for key in items} == items
    assert dict(walk(blocks.get, root)) == items
    assert [key for key, _ in walk(blocks.get, root)] == sorted(items)
    assert {node.cid: node.raw for node in walk_nodes(blocks.get, root)} == blocks


def test_new_blocks_complete_the_old() -> None:
    items = made(300)
    root, blocks = blocks_of(items)
    tree = Tree(blocks.get, root)
    rng = random.Random(2)
    for step in range(60):
        key = rng.choice(sorted(items))
        if step % 3:
            key = b"c/%d" % rng.randrange(10**9)
            items[key] = cid_for(key)
            tree.put(key, items[key])
        else:
            del items[key]
            tree.delete(key)
        new = tree.new_blocks()
        blocks |= new
        tree.settle()
        assert tree.new_blocks() == {}
        assert dict(walk(blocks.get, tree.root())) == items


def test_walk_from_a_key() -> None:
    items = made(300)
    root, blocks = blocks_of(items)
    keys = sorted(items)
    for start in (b"", keys[0], keys[117], keys[117] + b"0", keys[-1], b"d"):
        found = [key for key, _ in walk(blocks.get, root, start)]
        assert found == [key for key in keys if key >= start]


def test_bad_keys_are_refused() -> None:
    tree = Tree({}.get)
    for key in (b"", b"a" * 1025):
        with pytest.raises(LimitExceededError):
            tree.put(key, cid_for(b""))
    tree.put(b"a" * 1024, cid_for(b""))


def test_missing_and_wrong_blocks_are_refused() -> None:
    items = made(300)
    root, blocks = blocks_of(items)
    with pytest.raises(MissingBlockError):
        Tree({}.get, root)
    for cid in blocks:
        without = {other: raw for other, raw in blocks.items() if other != cid}
        with pytest.raises(MissingBlockError):
            list(walk(without.get, root))
        wrong = blocks | {cid: b"\xa0"}
        with pytest.raises(InvalidTreeError):
            list(walk(wrong.get, root))


def test_build_refuses_unsorted_keys() -> None:
    cid = cid_for(b"")
    for keys in ([b"b", b"a"], [b"a", b"a"], [b""]):
        with pytest.raises(InvalidTreeError):
            build_root((key, cid) for key in keys)
    with pytest.raises(LimitExceededError):
        build_root([(b"a" * 1025, cid)])


def test_wide_nodes_are_refused() -> None:
    keys = sorted(
        key for key in (b"k/%05d" % n for n in range(2_000)) if not height(key)
    )
    cid = cid_for(b"")
    build_root((key, cid) for key in keys[:256])
    with pytest.raises(LimitExceededError):
        build_root((key, cid) for key in keys[:257])
    tree = Tree({}.get)
    for key in keys[:257]:
        tree.put(key, cid)
    with pytest.raises(LimitExceededError):
        tree.root()


def test_nodes_come_behind_those_below_them() -> None:
    seen: set[bytes] = set()
    items = sorted(made(500).items())
    nodes = list(build_nodes(items))
    for node in nodes:
        children = {link for link in parse_node(node.raw)[2] if link is not None}
        assert children <= seen
        seen.add(node.cid)
    assert len(seen) == len(nodes)


def test_diff_finds_every_change_and_reads_little() -> None:
    rng = random.Random(3)
    old = made(2_000)
    for changes in (0, 1, 3, 40, 2_000):
        new = dict(old)
        for key in rng.sample(sorted(old), changes // 2):
            del new[key]
        for key in rng.sample(sorted(new), changes // 4):
            new[key] = cid_for(key)
        for _ in range(changes):
            key = b"c/%d" % rng.randrange(10**9)
            new[key] = cid_for(key)
        root, blocks = blocks_of(old)
        new_root, new_blocks = blocks_of(new)
        both = blocks | new_blocks
        read: list[bytes] = []

        def get(cid: bytes) -> bytes | None:
            read.append(cid)  # noqa: B023
            return both.get(cid)  # noqa: B023

        found = list(diff(get, root, new_root))
        wanted = [
            TreeOp(key, new.get(key), old.get(key))
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        assert found == wanted
        if changes <= 3:
            assert len(read) < 30 * (changes + 1)
    empty = {EMPTY_ROOT: EMPTY_NODE}
    assert [op.key for op in diff((empty | both).get, EMPTY_ROOT, root)] == sorted(old)
    assert [op.key for op in diff((empty | both).get, root, EMPTY_ROOT)] == sorted(old)


def test_proofs_of_presence_and_absence() -> None:
    items = made(400)
    root, blocks = blocks_of(items)
    for key in [*sorted(items)[::17], b"", b"a", b"c/5", b"z"]:
        proof = prove(blocks.get, root, key)
        assert next(iter(proof)) == root
        assert len(proof) < 12
        assert find_proven(proof, root, key) == items.get(key)
        top = max(height(item) for item in items)
        for depth, cid in enumerate(proof):
            part = {other: raw for other, raw in proof.items() if other != cid}
            # Below its level the key cannot stand, so those nodes are not needed.
            if top - depth >= height(key):
                with pytest.raises(MissingBlockError):
                    find_proven(part, root, key)
            else:
                assert find_proven(part, root, key) is None


def test_covering_proof_is_small_and_has_the_new_nodes() -> None:
    items = made(3_000)
    tree = stored(items)
    key = b"c/123456"
    tree.put(key, cid_for(key))
    proof = tree.proof_blocks([key])
    assert set(tree.new_blocks()) <= set(proof)
    assert len(proof) < 30
    assert next(iter(proof)) == tree.root()


def test_subtree_out_of_bounds_is_refused() -> None:
    # A node in the right place of the wrong neighbour, and one below an empty node.
    low = [key for key in (b"k%d" % n for n in range(3_000)) if height(key) == 0]
    one = [key for key in (b"k%d" % n for n in range(3_000)) if height(key) == 1]
    two = [key for key in (b"k%d" % n for n in range(9_000)) if height(key) == 2]
    cid = cid_for(b"")

    def raw_node(key: bytes, *links: bytes | None) -> tuple[bytes, bytes]:
        raw = encode_node([key], [cid], links)
        return cid_for(raw), raw

    above = max(key for key in low if key > min(one))
    leaf = raw_node(above, None, None)
    parent = raw_node(min(one), leaf[0], None)
    blocks = dict([leaf, parent])
    with pytest.raises(InvalidTreeError):
        Tree(blocks.get, parent[0]).get(b"k")
    with pytest.raises(InvalidTreeError):
        list(walk(blocks.get, parent[0]))

    above = max(key for key in low if key > min(two))
    leaf = raw_node(above, None, None)
    between = encode_node([], [], [leaf[0]])
    parent = raw_node(min(two), cid_for(between), None)
    blocks = dict([leaf, (cid_for(between), between), parent])
    with pytest.raises(InvalidTreeError):
        Tree(blocks.get, parent[0]).get(b"k")
    with pytest.raises(InvalidTreeError):
        list(walk(blocks.get, parent[0]))
