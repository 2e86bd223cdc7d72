"""Chosen collections of a repo, proven against its signed commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.repos.sparse import (
    SparseUnavailableError,
    fetch_collections,
    list_collections,
)
from network.errors import XrpcError
from protocol.data import cbor
from protocol.data.cid import cid_for, cid_from_text, cid_to_text
from protocol.identity.keys import PrivateKey
from protocol.limits import MAX_REV_AHEAD_US
from protocol.mst import build_nodes
from protocol.repo.car import car_block
from protocol.repo.commit import parse_commit, sign_commit
from protocol.syntax import Did, tid_from_int

DID = Did("did:plc:" + "a" * 24)
KEY = PrivateKey.generate("k256")
NOW_US = 4_000_000_000_000_000
COLLECTIONS = ("app.a.x", "app.a.x.y", "app.a.xy", "app.a.y", "app.b.x")
# An answer without a root: {"roots": [], "version": 1}.
ROOTLESS = bytes.fromhex("11a265726f6f7473806776657273696f6e01")


@dataclass
class Host:
    """Gives single blocks. `spoil` may change what it gives."""

    paths: list[str]
    did: str = DID
    key: PrivateKey = KEY
    spoil: Callable[[dict[bytes, bytes]], None] = lambda blocks: None
    error: str | None = None
    asked: list[bytes] = field(default_factory=list)
    rounds: int = 0
    changes: int = 0

    def __post_init__(self) -> None:
        self.rev = 1
        self._build()

    def _build(self) -> None:
        self.records = {path: cbor.encode({"path": path}) for path in self.paths}
        self.put({p.encode(): cid_for(raw) for p, raw in self.records.items()})

    def put(self, items: dict[bytes, bytes]) -> None:
        nodes = list(build_nodes(sorted(items.items())))
        self.nodes = {node.cid for node in nodes}
        self.blocks = {node.cid: node.raw for node in nodes}
        self.blocks |= {cid_for(raw): raw for raw in self.records.values()}
        signed = sign_commit(
            self.did,  # type: ignore[arg-type]
            nodes[-1].cid,
            tid_from_int(self.rev << 40),
            self.key,
        )
        self.head = cid_for(signed)
        self.blocks[self.head] = signed

    async def query(self, nsid: str, params: dict[str, Any]) -> Any:
        self.rounds += 1
        if self.error is not None:
            raise XrpcError(self.error, "", 400)
        return {"cid": cid_to_text(self.head), "rev": "any"}

    async def query_bytes(
        self, nsid: str, params: dict[str, Any], *, max_bytes: int
    ) -> bytes:
        if self.changes and len(self.asked) > 1:
            self.changes -= 1
            self.rev += 1
            self.paths.append(f"app.a.y/{tid_from_int(self.rev << 45)}")
            self._build()
        cids = [cid_from_text(text) for text in params["cids"]]
        self.asked += cids
        if any(cid not in self.blocks for cid in cids):
            raise XrpcError("BlockNotFound", "", 400)
        found = {cid: self.blocks[cid] for cid in cids}
        self.spoil(found)
        return ROOTLESS + b"".join(car_block(*block) for block in found.items())

    def fetch(self, *collections: str, most: int = 5_000) -> dict[str, bytes]:
        repo = asyncio.run(
            fetch_collections(
                self,  # type: ignore[arg-type]
                DID,
                KEY.public,
                collections,
                NOW_US,
                most_records=most,
            )
        )
        assert repo.head.commit == self.blocks[self.head]
        return {f"{r.collection}/{r.rkey}": r.value for r in repo.records}

    def wanted(self, *collections: str) -> dict[str, bytes]:
        return {
            path: raw
            for path, raw in self.records.items()
            if path.partition("/")[0] in collections
        }


def paths(count: int, step: int = 1) -> list[str]:
    return [
        f"{COLLECTIONS[n * step % len(COLLECTIONS)]}/{tid_from_int((n + 1) << 20)}"
        for n in range(count)
    ]


@settings(max_examples=60)
@given(
    held=st.lists(
        st.tuples(st.sampled_from(COLLECTIONS), st.integers(1, 10_000)), unique=True
    ),
    asked=st.sets(st.sampled_from((*COLLECTIONS, "zz.not.here")), min_size=1),
)
def test_all_of_it_and_nothing_else(
    held: list[tuple[str, int]], asked: set[str]
) -> None:
    host = Host([f"{nsid}/{tid_from_int(n << 30)}" for nsid, n in held])
    assert host.fetch(*asked) == host.wanted(*asked)


def test_most_of_the_tree_is_not_asked_for() -> None:
    host = Host([*paths(2_000), "zz.rare/self"])
    assert host.fetch("zz.rare") == host.wanted("zz.rare")
    assert len(set(host.asked) & host.nodes) < len(host.nodes) / 20
    assert len(set(host.asked) - host.nodes) == 2  # the commit and the record


def listed(host: Host, root: bytes, *collections: str) -> list[tuple[bytes, bytes]]:
    return asyncio.run(list_collections(host, DID, root, collections))  # type: ignore[arg-type]


def test_what_stands_under_a_known_root() -> None:
    host = Host([*paths(300), "zz.rare/self"])
    root = parse_commit(host.blocks[host.head]).data
    wanted = host.wanted("app.a.x", "zz.rare")
    assert listed(host, root, "app.a.x", "zz.rare", "zz.none") == sorted(
        (path.encode(), cid_for(raw)) for path, raw in wanted.items()
    )
    assert not {cid_for(raw) for raw in host.records.values()} & set(host.asked)
    with pytest.raises(SparseUnavailableError):
        listed(host, cid_for(b"a root of long ago"), "app.a.x")
    host.spoil = leave_out
    with pytest.raises(SparseUnavailableError):
        listed(host, root, "app.a.x")


def test_a_commit_of_the_future_is_refused() -> None:
    host = Host(["app.a.x/a"])
    now = host.rev << 30
    for late, refused in ((0, False), (1, True)):
        fetching = fetch_collections(
            host,  # type: ignore[arg-type]
            DID,
            KEY.public,
            ["app.a.x"],
            now - MAX_REV_AHEAD_US - late,
        )
        with pytest.raises(SparseUnavailableError) if refused else nullcontext():
            asyncio.run(fetching)


def test_what_is_no_record_is_told() -> None:
    host = Host(["app.a.x/a", "app.a.y/a"])
    strange = bytes((1, 0x55, 0x12, 32)) + bytes(32)
    host.put({b"app.a.x/a": strange, b"app.a.y/a": strange})
    repo = asyncio.run(
        fetch_collections(host, DID, KEY.public, ["app.a.x"], NOW_US)  # type: ignore[arg-type]
    )
    assert repo.records == []
    assert [(drop.path, drop.cid) for drop in repo.drops] == [("app.a.x/a", strange)]


def test_a_commit_between_two_requests() -> None:
    host = Host(paths(200), changes=2)
    assert host.fetch("app.a.y") == host.wanted("app.a.y")
    assert host.rounds > 1
    host = Host(paths(200), changes=1_000)
    with pytest.raises(SparseUnavailableError):
        host.fetch("app.a.y")


def leave_out(blocks: dict[bytes, bytes]) -> None:
    blocks.pop(next(iter(blocks)))


def give_another(blocks: dict[bytes, bytes]) -> None:
    cid = next(iter(blocks))
    blocks[cid] += b"\0"


@pytest.mark.parametrize("spoil", [leave_out, give_another])
def test_lies_are_no_answers(spoil: Callable[[dict[bytes, bytes]], None]) -> None:
    with pytest.raises(SparseUnavailableError):
        Host(paths(100), spoil=spoil).fetch("app.a.x")


def test_the_commit_must_be_of_the_account() -> None:
    with pytest.raises(SparseUnavailableError):
        Host(paths(10), did="did:plc:" + "b" * 24).fetch("app.a.x")
    with pytest.raises(SparseUnavailableError):
        Host(paths(10), key=PrivateKey.generate("k256")).fetch("app.a.x")


def test_too_much_is_for_the_whole_repo() -> None:
    host = Host(paths(100))
    assert len(host.fetch("app.a.x", most=20)) == 20
    with pytest.raises(SparseUnavailableError):
        host.fetch("app.a.x", most=19)


def test_what_the_host_says_of_the_account_is_passed_on() -> None:
    with pytest.raises(XrpcError):
        Host(paths(10), error="RepoTakendown").fetch("app.a.x")
    with pytest.raises(SparseUnavailableError):
        Host(paths(10), error="MethodNotImplemented").fetch("app.a.x")


def test_block_under_many_keys_needs_whole_fetch() -> None:
    host = Host([f"app.a.x/{n:04}" for n in range(40)])
    raw = cbor.encode({"text": "x" * 500_000})
    host.records = dict.fromkeys(host.paths, raw)
    host.put({path.encode(): cid_for(raw) for path in host.paths})
    assert sum(map(len, host.blocks.values())) < 600_000
    with pytest.raises(SparseUnavailableError):
        host.fetch("app.a.x")
