"""Merkle search trees: the keys and records of a repo under one hash."""

from __future__ import annotations

from protocol.mst.build import build_nodes, build_root
from protocol.mst.invert import OperationMismatchError, TreeOp, invert
from protocol.mst.node import (
    EMPTY_NODE,
    EMPTY_ROOT,
    encode_node,
    height,
    parse_node,
    shared_prefix,
)
from protocol.mst.tree import Tree

__all__ = [
    "EMPTY_NODE",
    "EMPTY_ROOT",
    "OperationMismatchError",
    "Tree",
    "TreeOp",
    "build_nodes",
    "build_root",
    "encode_node",
    "height",
    "invert",
    "parse_node",
    "shared_prefix",
]
