"""Inversion of the operations of a commit (specs/sync, "commit validation").

A commit brings the nodes of its tree that its operations touch. Undoing the operations
in them must give the root of the tree before; the caller compares it with its state.

If that tree is well formed, the blocks that were not read are too, since both trees
contain them. What remains are the read nodes, and the order of created keys among their
neighbours. The nodes between them are read if they were sent. A producer may omit them;
such a key counts as unchecked, and only an audit of the whole repo can find it out of
order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from protocol.errors import InvalidTreeError, ProtocolError
from protocol.mst.entries import CannotUndoError
from protocol.mst.splice import Undoing
from protocol.mst.tree import Tree

# Splicing decodes and encodes a node once for each operation in it. For many
# operations the strict way is faster.
_FEW: Final = 16


class OperationMismatchError(InvalidTreeError):
    """An operation that contradicts the new tree."""


class TreeOp(NamedTuple):
    """A change of one key from `prev` to `cid`; None means absent."""

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
    """Return the root of the tree before `ops` led to `data`.

    `blocks` holds nodes of the new tree by CID, with those between created keys and
    their neighbours if available. `expected`, the older root if known, allows a faster
    way.

    Verifies each node that it reads and its place, that the new tree holds every
    operation, and that created keys are in order. No key may occur twice. Does not
    verify nodes that it does not read. `unchecked` receives the created keys whose
    neighbours were not sent.

    Raises InvalidTreeError, LimitExceededError or MissingBlockError.
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
            pass  # The strict way finds the fault, if there is one.
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
        raise OperationMismatchError("two operations change the same key")


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
            raise OperationMismatchError("operation changes nothing")
        if tree.get(key) != cid:
            raise OperationMismatchError("operation contradicts the new tree")
        if prev is None and not tree.check_neighbours(key) and unchecked is not None:
            unchecked.append(key)
    # Highest key first: another order may need nodes that a minimal proof lacks.
    for key, _, prev in sorted(ops, reverse=True):
        if prev is None:
            tree.delete(key)
        else:
            tree.put(key, prev)
    return tree.root()
