"""Proofs from cached trees."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.proof_trees import ProofTrees
from network.errors import XrpcError
from protocol.data.cid import cid_for
from protocol.errors import MissingBlockError
from protocol.mst import build_nodes, build_root, parse_node

Item = tuple[bytes, bytes]
keys = st.sets(
    st.integers(0, 10**6).map(lambda n: f"app.a.x/{n:07}".encode()), min_size=1
)


def tree(names: set[bytes]) -> list[Item]:
    return [(name, cid_for(name)) for name in sorted(names)]


@given(names=keys, other=st.integers(0, 10**6))
def test_proof_shows_presence_and_absence(names: set[bytes], other: int) -> None:
    trees = ProofTrees()
    items = tree(names)
    root = build_root(items)
    for key in [*sorted(names)[:5], f"app.a.x/{other:07}".encode()]:
        path = trees.prove(root, key, lambda: items)
        assert path[0][0] == root
        for (_, above), (cid, block) in pairwise(path):
            assert cid_for(block) == cid
            assert cid in parse_node(above)[2]
        found, values, _ = parse_node(path[-1][1])
        assert (key in found) == (key in names)
        if key in names:
            assert values[found.index(key)] == cid_for(key)


def test_proof_tree_is_built_once() -> None:
    trees = ProofTrees()
    items = tree({f"app.a.x/{n}".encode() for n in range(500)})
    reads: list[int] = []

    def read() -> Iterator[Item]:
        reads.append(1)
        return iter(items)

    for key, _ in items[:50]:
        trees.prove(build_root(items), key, read)
    assert len(reads) == 1


def test_proof_trees_are_built_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.proof_trees._WAIT_S", 0.01)
    trees = ProofTrees()
    known, large, other = (tree({b"app.a.x/" + name}) for name in (b"k", b"l", b"o"))
    trees.prove(build_root(known), b"app.a.x/k", lambda: known)

    def read() -> Iterator[Item]:
        assert trees.prove(build_root(known), b"app.a.x/k", list)
        with pytest.raises(XrpcError) as raised:
            trees.prove(build_root(other), b"app.a.x/o", lambda: other)
        assert raised.value.status == 503
        yield from large

    trees.prove(build_root(large), b"app.a.x/l", read)
    assert trees.prove(build_root(other), b"app.a.x/o", lambda: other)


def test_proof_trees_are_bounded() -> None:
    sizes = [tree({f"app.a.x/{n}-{m}".encode() for m in range(100)}) for n in range(10)]
    one = sum(len(node.raw) + 36 for node in build_nodes(sizes[0]))
    trees = ProofTrees(max_bytes=3 * one + one // 2, max_tree=2 * one)
    for items in sizes:
        trees.prove(build_root(items), items[0][0], lambda items=items: items)
    assert 1 <= len(trees._trees) <= 3
    large = tree({f"app.a.x/{n}".encode() for n in range(1_000)})
    trees.prove(build_root(large), large[0][0], lambda: large)
    assert build_root(large) not in trees._trees


def test_proof_refuses_records_of_another_tree() -> None:
    items = tree({b"app.a.x/1", b"app.a.x/2"})
    with pytest.raises(MissingBlockError):
        ProofTrees().prove(build_root(items), b"app.a.x/1", lambda: items[:1])
