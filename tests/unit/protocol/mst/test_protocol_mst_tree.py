from __future__ import annotations

import random

import pytest

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError, LimitExceededError, MissingBlockError
from protocol.mst import (
    EMPTY_NODE,
    EMPTY_ROOT,
    Tree,
    build_nodes,
    build_root,
    encode_node,
    height,
    parse_node,
)
from protocol.mst.ranges import read_part

Items = dict[bytes, bytes]


def make_items(count: int, seed: int = 1) -> Items:
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


def test_tree_is_empty() -> None:
    tree = Tree({}.get)
    assert tree.root() == EMPTY_ROOT == build_root([])
    assert tree.get(b"a") is None
    assert tree.delete(b"a") is None
    assert tree.new_blocks() == tree.proof_blocks([b"a"]) == {EMPTY_ROOT: EMPTY_NODE}


def test_tree_put_get_and_delete() -> None:
    one, two = cid_for(b"1"), cid_for(b"2")
    tree = Tree({}.get)
    assert tree.put(b"a", one) is None
    assert tree.put(b"a", two) == one
    assert tree.get(b"a") == two
    assert tree.get(b"b") is None
    assert tree.delete(b"b") is None
    assert tree.delete(b"a") == two
    assert tree.root() == EMPTY_ROOT


def test_tree_reads_its_blocks() -> None:
    items = make_items(400)
    root, blocks = blocks_of(items)
    tree = Tree(blocks.get, root)
    assert tree.root() == root
    assert tree.new_blocks() == {}
    assert {key: tree.get(key) for key in items} == items
    assert read_part(blocks.get, root).found == sorted(items.items())


def test_new_blocks_complete_the_stored_tree() -> None:
    items = make_items(300)
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
        assert dict(read_part(blocks.get, tree.root()).found) == items


def test_tree_refuses_keys_of_invalid_length() -> None:
    tree = Tree({}.get)
    for key in (b"", b"a" * 1025):
        with pytest.raises(LimitExceededError):
            tree.put(key, cid_for(b""))
    tree.put(b"a" * 1024, cid_for(b""))


def test_tree_with_missing_or_wrong_blocks() -> None:
    items = make_items(300)
    root, blocks = blocks_of(items)
    with pytest.raises(MissingBlockError):
        Tree({}.get, root)
    for cid in blocks:
        without = {other: raw for other, raw in blocks.items() if other != cid}
        assert read_part(without.get, root).missing == [cid]
        wrong = blocks | {cid: b"\xa0"}
        with pytest.raises(InvalidTreeError):
            read_part(wrong.get, root)


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


def test_build_nodes_yields_children_first() -> None:
    seen: set[bytes] = set()
    items = sorted(make_items(500).items())
    nodes = list(build_nodes(items))
    for node in nodes:
        children = {link for link in parse_node(node.raw)[2] if link is not None}
        assert children <= seen
        seen.add(node.cid)
    assert len(seen) == len(nodes)


def test_covering_proof_is_small_and_has_the_new_nodes() -> None:
    items = make_items(3_000)
    tree = stored(items)
    key = b"c/123456"
    tree.put(key, cid_for(key))
    proof = tree.proof_blocks([key])
    assert set(tree.new_blocks()) <= set(proof)
    assert len(proof) < 30
    assert next(iter(proof)) == tree.root()


@pytest.mark.parametrize("level", [1, 2])
def test_subtree_out_of_bounds_is_refused(level: int) -> None:
    """A leaf with a key after its bound, below a node or below an empty node."""
    keys = [b"k%d" % n for n in range(9_000)]
    top = min(key for key in keys if height(key) == level)
    wrong = max(key for key in keys if height(key) == 0 and key > top)
    cid = cid_for(b"")
    blocks = {}
    link: bytes | None = None
    for node_keys in [[wrong], *[[]] * (level - 1), [top]]:
        links = [link, None][: len(node_keys) + 1]
        raw = encode_node(node_keys, [cid] * len(node_keys), links)
        link = cid_for(raw)
        blocks[link] = raw
    assert link is not None
    with pytest.raises(InvalidTreeError):
        Tree(blocks.get, link).get(b"k")
    with pytest.raises(InvalidTreeError):
        read_part(blocks.get, link)
