"""Merkle search trees: the keys and records of a repo, under one hash."""

from __future__ import annotations

from protocol.mst.build import BuiltNode, build_nodes, build_root
from protocol.mst.node import (
    EMPTY_NODE,
    EMPTY_ROOT,
    encode_node,
    height,
    parse_node,
    shared_prefix,
)
from protocol.mst.tree import GetBlock, Tree

__all__ = [
    "EMPTY_NODE",
    "EMPTY_ROOT",
    "BuiltNode",
    "GetBlock",
    "Tree",
    "build_nodes",
    "build_root",
    "encode_node",
    "height",
    "parse_node",
    "shared_prefix",
]
