"""The fewest nodes of a tree that undo a commit, as frugal producers send them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.mst import Tree, TreeOp


def minimal_proof(
    get_block: Callable[[bytes], bytes | None], root: bytes, ops: Sequence[TreeOp]
) -> dict[bytes, bytes]:
    """Return the nodes that undoing `ops` reads, the highest key first, by CID."""
    read: dict[bytes, bytes] = {}

    def get(cid: bytes) -> bytes | None:
        raw = get_block(cid)
        if raw is not None:
            read[cid] = raw
        return raw

    tree = Tree(get, root)
    for key, _, prev in sorted(ops, reverse=True):
        if prev is None:
            tree.delete(key)
        else:
            tree.put(key, prev)
    return read
