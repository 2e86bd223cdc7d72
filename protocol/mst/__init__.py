"""Merkle search trees: the keys and records of a repo, under one hash."""

from __future__ import annotations

from protocol.mst.build import BuiltNode, build_nodes, build_root
from protocol.mst.diff import diff
from protocol.mst.invert import OperationMismatchError, TreeOp, invert
from protocol.mst.node import (
    EMPTY_NODE,
    EMPTY_ROOT,
    encode_node,
    height,
    parse_node,
    shared_prefix,
)
from protocol.mst.proof import find_proven, prove
from protocol.mst.tree import GetBlock, Tree
from protocol.mst.walk import walk, walk_nodes

__all__ = [
    "EMPTY_NODE",
    "EMPTY_ROOT",
    "BuiltNode",
    "GetBlock",
    "OperationMismatchError",
    "Tree",
    "TreeOp",
    "build_nodes",
    "build_root",
    "diff",
    "encode_node",
    "find_proven",
    "height",
    "invert",
    "parse_node",
    "prove",
    "shared_prefix",
    "walk",
    "walk_nodes",
]
