"""Taking the operations of a commit back (specs/sync, "commit validation").

A commit brings the part of its new tree that its operations touch, and says which tree
came before. Undoing the operations in that part must give the root of the older tree.

Why that is proof, given that the older tree is well formed: what lies in blocks that
are not read is under one hash in both trees, so it is well formed where it stood
before. What is left are the nodes that the operations made, which are read, and the
places of the created keys: each must stand between its neighbours. The nodes between
are read where they came along, although undoing would often not need them; a producer
may leave them out. Such a key counts as unchecked: its author may have signed a tree
whose keys are out of order there, which an audit of the whole repo finds. The root of
the older tree is therefore worth as much as the state it is compared with; comparing
is the caller's part.

Operations are undone with the highest key first. Another order may need more nodes
than a minimal proof holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from protocol.errors import InvalidTreeError, ProtocolError
from protocol.mst.splice import CannotUndoError, Undoing
from protocol.mst.tree import Tree

# The short way reads and writes a node anew for each operation in it, so the time for
# many in one large node would be a product. Reading strictly does it once.
_FEW: Final = 16


class OperationMismatchError(InvalidTreeError):
    """What an operation says of the new tree is not so."""


class TreeOp(NamedTuple):
    """What a commit did to one key: `prev` stood there before, `cid` stands there now.

    None for nothing: a create has no `prev`, a delete no `cid`.
    """

    key: bytes
    cid: bytes | None
    prev: bytes | None


def invert(
    blocks: Mapping[bytes, bytes],
    data: bytes,
    ops: Sequence[TreeOp],
    expected: bytes | None = None,
    unchecked: list[bytes] | None = None,
) -> bytes:
    """Return the root of the tree that became `data` by `ops`.

    `blocks` holds nodes of the new tree by CID: those that undoing the operations
    reads, best also those between created keys and their neighbours. Other blocks do
    not matter. Where the older root is known, naming it as `expected` finds out sooner
    that it is the one.

    Verifies: each node it reads is well formed and in its place; every key of a
    create or update stands in the new tree with the operation's CID, no key of a
    delete does; created keys stand in order; no key comes twice.
    Does not verify: nodes it does not read, which the older tree has as well; the
    order of created keys whose neighbours did not come: `unchecked` receives those.
    Raises InvalidTreeError, LimitExceededError, and MissingBlockError where nodes
    that are needed did not come.
    """
    if not ops:
        return data
    if expected is not None and len(ops) <= _FEW:
        try:
            loose: list[bytes] = []
            if _undo_all(dict(blocks), data, ops, loose) == expected:
                if unchecked is not None:
                    unchecked += loose
                return expected
        except (
            CannotUndoError,
            ProtocolError,
            LookupError,
            TypeError,
            ValueError,
            RecursionError,
        ):
            pass  # Reading strictly tells what is wrong, if anything is.
    return _invert_in_tree(blocks, data, ops, unchecked)


def _undo_all(
    blocks: dict[bytes, bytes],
    data: bytes,
    ops: Sequence[TreeOp],
    unchecked: list[bytes],
) -> bytes:
    _check_keys(ops)
    undoing = Undoing(blocks, data, unchecked)
    for key, cid, prev in sorted(ops) if len(ops) > 1 else ops:
        undoing.undo(key, cid, prev)
    return undoing.root()


def _check_keys(ops: Sequence[TreeOp]) -> None:
    if len(ops) > 1 and len({op.key for op in ops}) != len(ops):
        raise OperationMismatchError("two operations on one key")


def _invert_in_tree(
    blocks: Mapping[bytes, bytes],
    data: bytes,
    ops: Sequence[TreeOp],
    unchecked: list[bytes] | None,
) -> bytes:
    _check_keys(ops)
    tree = Tree(blocks.get, data)
    for key, cid, prev in ops:
        if cid is None and prev is None:
            raise OperationMismatchError("an operation that does nothing")
        if tree.get(key) != cid:
            raise OperationMismatchError(
                "the new tree does not hold what an operation says"
            )
        if prev is None and not tree.check_neighbours(key) and unchecked is not None:
            unchecked.append(key)
    for key, _, prev in sorted(ops, reverse=True):
        if prev is None:
            tree.delete(key)
        else:
            tree.put(key, prev)
    return tree.root()
