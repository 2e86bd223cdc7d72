"""Reads of whole repos, blocks and proofs over HTTP."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pds_world import NOTE, Client, World, head, new_account, note, signing_key

from protocol.data.cbor import decode
from protocol.data.cid import cid_for, cid_to_text
from protocol.mst import Tree, build_root
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit, verify_commit_signature
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did


@pytest.fixture
def alice(server: Client) -> Client:
    return new_account(server)


def test_repo_is_exported_whole(alice: Client) -> None:
    records = {}
    for n in range(60):
        answer = alice.create(note(f"text {n % 50}"), rkey=f"k{n}")
        records[f"{NOTE}/k{n}"] = answer.json["cid"]
    answer = alice.get("com.atproto.sync.getRepo", did=alice.did)
    assert answer.headers["Content-Type"] == "application/vnd.ipld.car"
    reader = RepoReader(signing_key(alice), Did(alice.did), time.time_ns() // 1_000)
    found = reader.feed(answer.body)
    last = reader.finish()
    assert {
        f"{item.collection}/{item.rkey}": cid_to_text(item.cid) for item in found
    } == records
    assert last.rev == head(alice)["rev"]
    assert cid_to_text(cid_for(last.commit)) == head(alice)["cid"]
    car = read_car(answer.body)
    assert cid_to_text(car.root) == head(alice)["cid"]
    assert set(records.values()) <= {cid_to_text(cid) for cid in car.blocks}


def test_repo_is_exported_since_a_rev(alice: Client) -> None:
    for n in range(40):
        alice.create(note(f"old {n}"))
    before = head(alice)
    first = read_car(alice.get("com.atproto.sync.getRepo", did=alice.did).body).blocks
    new = [alice.create(note(f"new {n}")).json["cid"] for n in range(3)]
    answer = alice.get("com.atproto.sync.getRepo", did=alice.did, since=before["rev"])
    diff = read_car(answer.body)
    assert cid_to_text(diff.root) == head(alice)["cid"]
    assert set(new) <= {cid_to_text(cid) for cid in diff.blocks}
    assert len(diff.blocks) < 20
    whole = read_car(alice.get("com.atproto.sync.getRepo", did=alice.did).body).blocks
    assert set(whole) <= set(first) | set(diff.blocks)


def test_record_is_proven_present_or_absent(alice: Client) -> None:
    for n in range(50):
        alice.create(note(f"{n}"), rkey=f"k{n}")
    key = signing_key(alice)
    for rkey, there in (("k7", True), ("other", False)):
        answer = alice.get(
            "com.atproto.sync.getRecord", did=alice.did, collection=NOTE, rkey=rkey
        )
        assert answer.headers["Content-Type"] == "application/vnd.ipld.car"
        car = read_car(answer.body)
        commit = verify_commit_signature(car.blocks[car.root], key)
        assert (commit.did, commit.rev) == (alice.did, head(alice)["rev"])
        cid = Tree(car.blocks.get, commit.data).get(f"{NOTE}/{rkey}".encode())
        assert (cid is not None) is there
        if cid is not None:
            assert decode(car.blocks[cid])["text"] == "7"
        assert len(car.blocks) < 20


def test_blocks_are_read_by_cid(alice: Client) -> None:
    written = alice.create(note("x")).json
    cids = [written["cid"], written["commit"]["cid"]]
    answer = alice.get("com.atproto.sync.getBlocks", did=alice.did, cids=cids)
    blocks = read_car(answer.body).blocks
    assert {cid_to_text(cid) for cid in blocks} == set(cids)
    assert parse_commit(read_car(answer.body).blocks[read_car(answer.body).root])
    missing = cid_to_text(b"\x01\x71\x12\x20" + bytes(32))
    answer = alice.get(
        "com.atproto.sync.getBlocks", did=alice.did, cids=[*cids, missing]
    )
    assert (answer.status, answer.error) == (400, "BlockNotFound")
    other = new_account(alice)
    answer = alice.get("com.atproto.sync.getBlocks", did=other.did, cids=cids)
    assert answer.error == "BlockNotFound"


def test_repos_are_listed_in_pages(server: Client, alice: Client) -> None:
    bob = new_account(server)
    found: dict[str, Any] = {}
    cursor: dict[str, Any] = {}
    while True:
        page = server.get("com.atproto.sync.listRepos", limit=2, **cursor).json
        assert len(page["repos"]) <= 2
        found |= {line["did"]: line for line in page["repos"]}
        if "cursor" not in page:
            break
        cursor = {"cursor": page["cursor"]}
    assert list(found)[-2:] == [alice.did, bob.did]
    latest = head(bob)
    assert found[bob.did] == {
        "did": bob.did,
        "head": latest["cid"],
        "rev": latest["rev"],
        "active": True,
    }
    status = server.get("com.atproto.sync.getRepoStatus", did=bob.did).json
    assert status == {"did": bob.did, "active": True, "rev": latest["rev"]}


@pytest.mark.parametrize(
    "nsid", ["getRepo", "getLatestCommit", "getRepoStatus", "listBlobs"]
)
def test_unknown_repo_is_not_found(server: Client, nsid: str) -> None:
    answer = server.get(f"com.atproto.sync.{nsid}", did="did:plc:" + "z" * 24)
    assert (answer.status, answer.error) == (400, "RepoNotFound")


def test_tree_root_matches_the_record_rows(world: World, alice: Client) -> None:
    for n in range(30):
        alice.create(note(f"{n}"), rkey=f"k{n}")
    car = read_car(alice.get("com.atproto.sync.getRepo", did=alice.did).body)
    data = parse_commit(car.blocks[car.root]).data
    with world.pool("a").connection() as conn:
        rows = conn.execute(
            "SELECT path, cid FROM record WHERE account ="
            " (SELECT id FROM account WHERE did = %s) ORDER BY path",
            [alice.did],
        ).fetchall()
    assert build_root((path.encode(), cid) for path, cid in rows) == data
