"""Trees broken at one place and hashed again up to a new root."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.data import cbor
from protocol.data.cid import Cid, cid_for
from protocol.mst import height, shared_prefix
from protocol.mst.walk import ROOT_PLACE, Item, items_reversed, open_node


@dataclass
class LooseNode:
    """A node of any content; `change_entries` edits its entries before writing."""

    level: int
    keys: list[bytes]
    values: list[bytes]
    children: list[LooseNode | bytes | None]
    change_entries: Callable[[list[dict[str, cbor.Value]]], None] | None = None
    change_bytes: Callable[[bytes], bytes] | None = None
    cut: list[int] = field(default_factory=list)


def take_apart(blocks: dict[bytes, bytes], root: bytes) -> list[LooseNode]:
    """Return the nodes of a tree, the root first."""
    nodes: dict[bytes, LooseNode] = {}
    stack: list[Item] = [(root, ROOT_PLACE)]
    while stack:
        cid, place = stack.pop()
        if not isinstance(place, bytes):
            node = open_node(blocks[cid], place)
            stack += items_reversed(node)
            keys, values, links = node.content
            nodes[cid] = LooseNode(node.place.level, keys, values, [*links])
    for loose in nodes.values():
        loose.children = [
            nodes[child] if isinstance(child, bytes) else child
            for child in loose.children
        ]
    return list(nodes.values())


def put_together(node: LooseNode, blocks: dict[bytes, bytes]) -> bytes:
    """Write a node and all below it, unchecked; return its CID."""
    links = [
        put_together(child, blocks) if isinstance(child, LooseNode) else child
        for child in node.children
    ]
    entries: list[dict[str, cbor.Value]] = []
    previous = b""
    for key, value, link in zip(node.keys, node.values, links[1:], strict=True):
        prefix = shared_prefix(previous, key)
        entries.append(
            {
                "p": prefix,
                "k": key[prefix:],
                "v": Cid(value),
                "t": None if link is None else Cid(link),
            }
        )
        previous = key
    if node.change_entries is not None:
        node.change_entries(entries)
    left = None if links[0] is None else Cid(links[0])
    raw = cbor.encode({"l": left, "e": list(entries)})
    if node.change_bytes is not None:
        raw = node.change_bytes(raw)
    cid = cid_for(raw)
    blocks[cid] = raw
    return cid


Mutator = Callable[[list[LooseNode], random.Random], bool]


def _some(
    nodes: list[LooseNode], rng: random.Random, wanted: Callable[[LooseNode], bool]
) -> LooseNode | None:
    fitting = [node for node in nodes if wanted(node)]
    return rng.choice(fitting) if fitting else None


def swap_keys(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: len(node.keys) > 1)
    if node is None:
        return False
    index = rng.randrange(len(node.keys) - 1)
    node.keys[index], node.keys[index + 1] = node.keys[index + 1], node.keys[index]
    return True


def double_key(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: len(node.keys) > 1)
    if node is None:
        return False
    index = rng.randrange(len(node.keys) - 1)
    node.keys[index + 1] = node.keys[index]
    return True


def key_of_another_height(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: bool(node.keys))
    if node is None:
        return False
    key = node.keys[-1]
    while height(key) == node.level:
        key += b"0"
    node.keys[-1] = key
    return True


def short_prefix(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: len(node.keys) > 1)
    if node is None:
        return False
    keys = list(node.keys)

    def change(entries: list[dict[str, cbor.Value]]) -> None:
        prefix = entries[1]["p"]
        assert isinstance(prefix, int)
        assert prefix
        entries[1]["p"] = prefix - 1
        entries[1]["k"] = keys[1][prefix - 1 :]

    node.change_entries = change
    return True


def long_prefix(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: bool(node.keys))
    if node is None:
        return False

    def change(entries: list[dict[str, cbor.Value]]) -> None:
        entries[0]["p"] = 1
        entries[0]["k"] = entries[0]["k"][1:]  # type: ignore[index,assignment]

    node.change_entries = change
    return True


def swap_children(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(
        nodes, rng, lambda node: sum(child is not None for child in node.children) > 1
    )
    if node is None:
        return False
    places = [index for index, child in enumerate(node.children) if child is not None]
    one, two = rng.sample(places, 2)
    node.children[one], node.children[two] = node.children[two], node.children[one]
    return True


def shift_child(nodes: list[LooseNode], rng: random.Random) -> bool:
    """Move the tree on one side of a key to the other."""

    def wanted(node: LooseNode) -> bool:
        return any(
            (one is None) != (two is None)
            for one, two in zip(node.children, node.children[1:], strict=False)
        )

    node = _some(nodes, rng, wanted)
    if node is None:
        return False
    children = node.children
    for index in range(len(children) - 1):
        if (children[index] is None) != (children[index + 1] is None):
            children[index], children[index + 1] = children[index + 1], children[index]
            return True
    return False


def shift_key(nodes: list[LooseNode], rng: random.Random) -> bool:
    """Move the last key on one side of a key to the front of the other side."""
    for node in nodes:
        for left, right in zip(node.children, node.children[1:], strict=False):
            if not isinstance(left, LooseNode) or not isinstance(right, LooseNode):
                continue
            last, first = left.children[-1], right.children[0]
            if len(left.keys) < 2 or (last is not None and first is not None):
                continue
            left.children.pop()
            right.children[:1] = [None, last or first]
            right.keys.insert(0, left.keys.pop())
            right.values.insert(0, left.values.pop())
            return True
    return False


def share_child(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(
        nodes,
        rng,
        lambda node: len(node.keys) > 1 and any(c is not None for c in node.children),
    )
    if node is None:
        return False
    child = next(child for child in node.children if child is not None)
    node.children = [child for _ in node.children]
    return True


def empty_child(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: node.level > 0 and None in node.children)
    if node is None:
        return False
    node.children[node.children.index(None)] = LooseNode(node.level - 1, [], [], [None])
    return True


def skip_a_level(nodes: list[LooseNode], rng: random.Random) -> bool:
    """Leave out an empty node in the middle."""
    for node in nodes:
        for index, child in enumerate(node.children):
            if isinstance(child, LooseNode) and not child.keys:
                node.children[index] = child.children[0]
                return True
    return False


def child_below_the_lowest(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: node.level == 0 and bool(node.keys))
    if node is None:
        return False
    node.children[0] = LooseNode(-1, [b"!"], [node.values[0]], [None, None])
    return True


def empty_root(nodes: list[LooseNode], rng: random.Random) -> bool:
    """Add a root that only points to the root."""
    root = nodes[0]
    if not root.keys:
        return False
    below = LooseNode(root.level, root.keys, root.values, root.children)
    nodes[0] = LooseNode(root.level + 1, [], [], [below])
    return True


def byte_behind(nodes: list[LooseNode], rng: random.Random) -> bool:
    rng.choice(nodes).change_bytes = lambda raw: raw + b"\x00"
    return True


def extra_field(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: bool(node.keys))
    if node is None:
        return False
    node.change_entries = lambda entries: entries[0].update({"x": None})
    return True


def long_number(nodes: list[LooseNode], rng: random.Random) -> bool:
    node = _some(nodes, rng, lambda node: bool(node.keys))
    if node is None:
        return False
    node.change_bytes = lambda raw: raw.replace(b"ap\x00", b"ap\x18\x00", 1)
    return True


MUTATORS: dict[str, Mutator] = {
    mutator.__name__: mutator
    for mutator in (
        swap_keys,
        double_key,
        key_of_another_height,
        short_prefix,
        long_prefix,
        swap_children,
        shift_child,
        shift_key,
        share_child,
        empty_child,
        skip_a_level,
        child_below_the_lowest,
        empty_root,
        byte_behind,
        extra_field,
        long_number,
    )
}


def plant(nodes: list[LooseNode], rng: random.Random, key: bytes) -> None:
    """Put a key into any node, mostly in order."""
    node = rng.choice([nodes[0], rng.choice(nodes)])
    index = bisect_left(node.keys, key)
    if rng.random() < 0.1:
        index = rng.randrange(len(node.keys) + 1)
    node.keys.insert(index, key)
    node.values.insert(index, cid_for(key))
    node.children.insert(index + rng.randrange(2), None)


def tear_out(nodes: list[LooseNode], rng: random.Random, key: bytes) -> None:
    """Remove a key, and change what hangs on its sides."""
    node = next(node for node in nodes if key in node.keys)
    index = node.keys.index(key)
    del node.keys[index], node.values[index]
    left, right = node.children[index : index + 2]
    joined = rng.choice([left, right, None])
    if rng.random() < 0.3:
        joined = LooseNode(node.level - 1, [], [], [joined])
    if isinstance(left, LooseNode) and isinstance(right, LooseNode):
        merged = LooseNode(
            left.level,
            left.keys + right.keys,
            left.values + right.values,
            [
                *left.children[:-1],
                rng.choice([None, left.children[-1]]),
                *right.children[1:],
            ],
        )
        joined = rng.choice([joined, merged])
    node.children[index : index + 2] = [joined]
