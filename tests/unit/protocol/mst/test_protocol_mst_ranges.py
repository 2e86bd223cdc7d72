"""Gaps of nodes: the keys of the tree that bound them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.data.cid import cid_for
from protocol.mst.build import build_nodes
from protocol.mst.node import parse_node
from protocol.mst.ranges import keep_within, locate_nodes

numbers = st.sets(st.integers(0, 5_000), min_size=1, max_size=120)


def items_of(chosen: set[int]) -> list[tuple[bytes, bytes]]:
    return [
        (f"com.example.thing/{number:05d}".encode(), cid_for(str(number).encode()))
        for number in sorted(chosen)
    ]


@given(chosen=numbers)
def test_locate_nodes_returns_the_gap_of_each_node(chosen: set[int]) -> None:
    items = items_of(chosen)
    nodes = {node.cid: node.raw for node in build_nodes(items)}

    def keys_below(cid: bytes | None) -> list[bytes]:
        if cid is None:
            return []
        keys, _, links = parse_node(nodes[cid])
        found = keys_below(links[0])
        for key, link in zip(keys, links[1:], strict=True):
            found += [key, *keys_below(link)]
        return found

    places = locate_nodes(items, nodes)
    assert set(places) == set(nodes)
    for cid, place in places.items():
        others: dict[bytes, bytes] = {}
        kept = keep_within(items, [place], others.__setitem__)
        assert [key for key, _ in kept] == keys_below(cid)
        assert len(others) == len(items) - len(keys_below(cid))


def test_locate_nodes_skips_unknown_nodes() -> None:
    assert locate_nodes(items_of({1, 2, 3}), [cid_for(b"elsewhere")]) == {}
