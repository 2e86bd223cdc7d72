"""Export of whole repos."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from repo_samples import DID, KEY, NOW_US, Item, blocks_of, items_of, sign

from protocol.data.cid import cid_for
from protocol.errors import InvalidTreeError
from protocol.mst import build_nodes
from protocol.repo.repo_export import export_repo
from protocol.repo.whole_repo import RepoReader


def test_export_is_in_pre_order() -> None:
    items = items_of(3_000)
    signed = sign(items)
    car = b"".join(export_repo(signed, lambda: items))
    reader = RepoReader(KEY.public, DID, NOW_US)
    keys = []
    most = 0
    for start in range(0, len(car), 1_000):
        keys += [one.rkey for one in reader.feed(car[start : start + 1_000])]
        assert not reader._spill
        most = max(most, len(reader._wanted))
    assert keys == sorted(keys)
    assert most < 300
    nodes = [node.cid for node in build_nodes((key, cid) for key, cid, _ in items)]
    cids = [cid for cid, _ in blocks_of(car)]
    assert cids[:2] == [cid_for(signed), nodes[-1]]
    assert set(cids) == {cid_for(signed), *nodes, *(cid for _, cid, _ in items)}


def test_export_refuses_records_that_are_not_signed() -> None:
    items = items_of(40)
    signed = sign(items)
    with pytest.raises(InvalidTreeError):
        export_repo(signed, lambda: items[:-1])
    calls: list[int] = []

    def changing() -> list[Item]:
        calls.append(1)
        return items if len(calls) == 1 else items[:-1]

    with pytest.raises(InvalidTreeError):
        list(export_repo(signed, changing))


def test_export_holds_few_records() -> None:
    items = items_of(6_000)
    signed = sign(items)
    given = 0
    ahead = 0

    def counted() -> Iterable[Item]:
        nonlocal given
        for one in items:
            given += 1
            yield one

    taken = 0
    for piece in export_repo(signed, counted):
        if b"$type" in piece:
            taken += 1
            ahead = max(ahead, given - len(items) - taken)
    assert taken == len(items)
    # Some hundreds of records, as below the fourth level of a tree.
    assert ahead < 2_000
