"""Trees and commits for the tests of trees."""

from __future__ import annotations

from hypothesis import strategies as st

from protocol.data.cid import cid_for
from protocol.mst import Tree, TreeOp, build_nodes, build_root, height

Items = dict[bytes, bytes]

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
    """Return the items after changes (None deletes), and the operations."""
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
    """Return (old root, new root, covering proof, operations) of a commit."""
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
