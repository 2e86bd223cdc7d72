"""Taking the operations of a commit back (specs/sync, "commit validation").

A commit brings the part of its new tree that its operations touch, and says which tree
came before. Undoing the operations in that part must give the root of the older tree.

Why that is proof, given that the older tree is well formed: what lies in blocks that
are not read is under one hash in both trees, so it is well formed where it stood
before. What is left are the nodes that the operations made, which are read, and the
places of the created keys: each must stand between its neighbours, so the nodes
between are read as well, although undoing would often not need them. The root of the
older tree is therefore worth as much as the state it is compared with; comparing is
the caller's part.
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
) -> bytes:
    """The root of the tree that became `data` by `ops`.

    `blocks` holds nodes of the new tree by CID: all on the way to the keys of the
    operations and to their neighbours. Other blocks do not matter. Where the older
    root is known, naming it as `expected` finds out sooner that it is the one.

    Verifies: each node it reads is well formed and in its place; every key of a
    create or update stands in the new tree with the operation's CID, no key of a
    delete does; created keys stand in order; no key comes twice.
    Does not verify: nodes it does not read, which the older tree has as well.
    Raises InvalidTreeError, LimitExceededError, and MissingBlockError where nodes
    that are needed did not come.
    """
    if not ops:
        return data
    if expected is not None and len(ops) <= _FEW:
        try:
            if _undo_all(dict(blocks), data, ops) == expected:
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
    return _invert_in_tree(blocks, data, ops)


def _undo_all(blocks: dict[bytes, bytes], data: bytes, ops: Sequence[TreeOp]) -> bytes:
    _check_keys(ops)
    undoing = Undoing(blocks, data)
    for key, cid, prev in sorted(ops) if len(ops) > 1 else ops:
        undoing.undo(key, cid, prev)
    return undoing.root()


def _check_keys(ops: Sequence[TreeOp]) -> None:
    if len(ops) > 1 and len({op.key for op in ops}) != len(ops):
        raise OperationMismatchError("two operations on one key")


def _invert_in_tree(
    blocks: Mapping[bytes, bytes], data: bytes, ops: Sequence[TreeOp]
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
        if prev is None:
            tree.check_neighbours(key)
    for key, _, prev in ops:
        if prev is None:
            tree.delete(key)
        else:
            tree.put(key, prev)
    return tree.root()
