"""Lists of repos, records, hosts and blobs, and blocks by CID."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import PICTURE, SERVICE, World, did
from small_world import fill as fill_small

from appview.takedowns import TakedownCache
from mirror import blob_methods, block_methods
from protocol.data.cid import cid_for, cid_to_text, raw_cid_for
from protocol.repo.car import read_car
from storage.private.takedowns import take_down, undo_takedown
from storage.records import collection_repos

BY_COLLECTION = "com.atproto.sync.listReposByCollection"
LIST_RECORDS = "com.atproto.repo.listRecords"
LIST_BLOBS = "com.atproto.sync.listBlobs"
GET_BLOCKS = "com.atproto.sync.getBlocks"
LIST_HOSTS = "com.atproto.sync.listHosts"
PLANT = "org.example.garden.plant"
TIDS = [f"3kaaaaaaaa{letter}22" for letter in "bcde"]
TEXTS = ["0", "3kaaaaaaaac", "self", "~tilde", "AZ.-_:~"]


def fill(world: World) -> dict[str, str]:
    """Add plants of dan, who is deactivated, of bob by all kinds of keys, and blobs."""
    uris = fill_small(world)
    world.write("dan", PLANT, {"name": "moss"})
    for rkey in (*TIDS, *TEXTS):
        world.write("bob", PLANT, {"name": rkey}, rkey)
    blobs = [blob(n) for n in range(7)]
    # No lexicon: blobs anywhere, one of them in the old form, one twice.
    legacy = {"cid": blobs[0]["ref"]["$link"], "mimeType": "image/png"}
    world.write("carol", PLANT, {"deep": [{"er": blobs[1:4]}, legacy]}, "a")
    world.write("carol", PLANT, {"more": [*blobs[4:], blobs[4]]}, "b")
    return uris


def blob(number: int) -> dict[str, Any]:
    cid = raw_cid_for(b"blob %d" % number)
    return PICTURE | {"ref": {"$link": cid_to_text(cid)}}


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, takedowns=TakedownCache(0)) as provider:
        yield provider
    databases.drop(url)


def holders(provider: Provider, nsid: str, limit: int) -> list[str]:
    repos = provider.pages(BY_COLLECTION, "repos", collection=nsid, limit=limit)
    return [repo["did"] for repo in repos]


@pytest.mark.parametrize("limit", [1, 2, 2000])
@pytest.mark.parametrize(
    ("collection", "names"),
    [
        (PLANT, ["alice", "bob", "carol"]),
        ("app.bsky.feed.post", ["alice", "bob", "carol", "eve"]),
        ("app.bsky.graph.block", ["eve"]),
        ("app.bsky.feed.generator", ["carol"]),
        ("org.example.unknown", []),
    ],
)
def test_list_repos_by_collection_names_active_holders_once(
    provider: Provider, collection: str, names: list[str], limit: int
) -> None:
    found = holders(provider, collection, limit)
    assert sorted(found) == [did(name) for name in names]


def test_page_of_a_sparse_collection_ends_with_a_cursor(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_repos, "_ROUNDS", 1)
    blocks = {"collection": "app.bsky.graph.block", "limit": 1}
    first = provider.get(BY_COLLECTION, **blocks)
    assert first["repos"] == []
    assert first["cursor"]
    assert holders(provider, "app.bsky.graph.block", 1) == [did("eve")]


@pytest.mark.parametrize("limit", [1, 2, 4, 100])
@pytest.mark.parametrize("reverse", [False, True])
def test_list_records_pages_in_the_order_of_keys(
    provider: Provider, limit: int, reverse: bool
) -> None:
    records = provider.pages(
        LIST_RECORDS,
        "records",
        repo="bob.test",
        collection=PLANT,
        limit=limit,
        reverse=str(reverse).lower(),
    )
    keys = [record["uri"].rpartition("/")[2] for record in records]
    assert keys == sorted([*TIDS, *TEXTS], reverse=not reverse)
    assert all(record["value"]["name"] in record["uri"] for record in records)
    cid = provider.world.cid("bob", f"{PLANT}/self")
    assert cid in {record["cid"] for record in records}


def test_list_records_ends_a_page_of_large_records_early(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("storage.records.record_rows", "appview.com_atproto.repo"):
        name = "PAGE_BYTES" if "storage" in module else "list_records.PAGE_BYTES"
        monkeypatch.setattr(f"{module}.{name}", 100)
    query = {"repo": did("bob"), "collection": PLANT, "limit": 100}
    assert 1 <= len(provider.get(LIST_RECORDS, **query)["records"]) < 9
    assert len(provider.pages(LIST_RECORDS, "records", **query)) == 9


def test_list_records_of_unknown_and_hidden_accounts_is_refused(
    provider: Provider,
) -> None:
    for repo in (did("dan"), did("nobody"), "nobody.test"):
        with pytest.raises(RefusedError) as refused:
            provider.get(LIST_RECORDS, repo=repo, collection=PLANT)
        assert (refused.value.status, refused.value.name) == (400, "InvalidRequest")
    empty = provider.get(LIST_RECORDS, repo=did("bob"), collection="org.example.none")
    assert empty == {"records": []}


@pytest.mark.parametrize("limit", [1, 100])
def test_list_records_has_the_feeds_of_the_provider(
    provider: Provider, limit: int
) -> None:
    records = provider.pages(
        LIST_RECORDS,
        "records",
        repo=SERVICE,
        collection="app.bsky.feed.generator",
        limit=limit,
    )
    uris = [record["uri"] for record in records]
    assert provider.uris["own_latest"] in uris
    assert uris == sorted(uris, reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_list_blobs_finds_every_blob_of_a_repo(
    provider: Provider, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = PICTURE["ref"]["$link"]  # type: ignore[index]
    wanted = {picture, *(blob(n)["ref"]["$link"] for n in range(7))}
    query = {"did": did("carol"), "limit": limit}
    found = provider.pages(LIST_BLOBS, "cids", **query)
    assert set(found) == wanted
    if limit == 500:
        assert len(found) == len(wanted)
    monkeypatch.setattr(blob_methods, "_PAGES", 1)
    monkeypatch.setattr("storage.records.record_rows.PAGE_BYTES", 10)
    assert set(provider.pages(LIST_BLOBS, "cids", **query)) == wanted


def test_list_blobs_since_the_held_revision_is_empty(provider: Provider) -> None:
    name = did("carol")
    rev = provider.get("com.atproto.sync.getLatestCommit", did=name)["rev"]
    assert provider.get(LIST_BLOBS, did=name, since=rev) == {"cids": []}
    assert provider.get(LIST_BLOBS, did=name, since="2222222222222")["cids"]
    with pytest.raises(RefusedError) as refused:
        provider.get(LIST_BLOBS, did=did("dan"))
    assert refused.value.name == "RepoDeactivated"


def test_taken_down_records_are_not_served(provider: Provider) -> None:
    feeds = {"repo": SERVICE, "collection": "app.bsky.feed.generator"}
    plants = {"repo": did("bob"), "collection": PLANT}
    own = len(provider.get(LIST_RECORDS, **feeds)["records"])
    subjects = {
        f"at://{did('bob')}/{PLANT}/self": plants | {"rkey": "self"},
        provider.uris["own_latest"]: feeds | {"rkey": "latest"},
    }
    with psycopg.connect(provider.database) as conn:
        for subject in subjects:
            take_down(conn, subject, operator="me", reason="law")
    try:
        assert len(provider.pages(LIST_RECORDS, "records", **plants, limit=4)) == 8
        assert len(provider.pages(LIST_RECORDS, "records", **feeds)) == own - 1
        for query in subjects.values():
            with pytest.raises(RefusedError):
                provider.get("com.atproto.repo.getRecord", **query)
    finally:
        with psycopg.connect(provider.database) as conn:
            for subject in subjects:
                undo_takedown(conn, subject, operator="me", reason="")
    for query in subjects.values():
        assert provider.get("com.atproto.repo.getRecord", **query)["value"]


def test_get_blocks_returns_commit_nodes_and_records(provider: Provider) -> None:
    whole, _ = provider.ask("com.atproto.sync.getRepo", did=did("alice"))
    car = read_car(whole)
    asked = [cid_to_text(cid) for cid in [*car.blocks][:100]]
    body, headers = provider.ask(GET_BLOCKS, did=did("alice"), cids=[*asked, asked[0]])
    assert headers["content-type"] == "application/vnd.ipld.car"
    found = read_car(body)
    assert {cid_to_text(cid) for cid in found.blocks} == {*asked}
    assert all(cid_for(block) == cid for cid, block in found.blocks.items())
    head = provider.get("com.atproto.sync.getHead", did=did("alice"))
    only, _ = provider.ask(GET_BLOCKS, did=did("alice"), cids=[head["root"]])
    assert [cid_to_text(cid) for cid in read_car(only).blocks] == [head["root"]]


@pytest.mark.parametrize(
    ("name", "cids", "error"),
    [
        ("alice", [cid_to_text(cid_for(b"nothing"))], "BlockNotFound"),
        (
            "alice",
            ["bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"],
            "BlockNotFound",
        ),
        ("dan", [cid_to_text(cid_for(b"nothing"))], "RepoDeactivated"),
        ("nobody", [cid_to_text(cid_for(b"nothing"))], "RepoNotFound"),
    ],
)
def test_get_blocks_refuses_by_name(
    provider: Provider, name: str, cids: list[str], error: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.ask(GET_BLOCKS, did=did(name), cids=cids)
    assert refused.value.name == error


def test_get_blocks_is_bounded(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_methods, "MAX_BLOCKS", 2)
    cids = [cid_to_text(cid_for(b"%d" % n)) for n in range(3)]
    with pytest.raises(RefusedError) as refused:
        provider.ask(GET_BLOCKS, did=did("alice"), cids=cids)
    assert refused.value.name == "InvalidRequest"


def test_get_head_and_checkout_serve_old_clients(provider: Provider) -> None:
    latest = provider.get("com.atproto.sync.getLatestCommit", did=did("alice"))
    head = provider.get("com.atproto.sync.getHead", did=did("alice"))
    assert head == {"root": latest["cid"]}
    checkout, _ = provider.ask("com.atproto.sync.getCheckout", did=did("alice"))
    assert checkout == provider.ask("com.atproto.sync.getRepo", did=did("alice"))[0]
    with pytest.raises(RefusedError) as refused:
        provider.get("com.atproto.sync.getHead", did=did("dan"))
    assert refused.value.name == "HeadNotFound"


def test_hosts_are_listed_with_status_and_sequence(provider: Provider) -> None:
    states = {"streaming": "active", "offline": "offline", "needs_recheck": "active"}
    with psycopg.connect(provider.database) as conn:
        for state in (*states, "relayed", "banned"):
            conn.execute(
                "INSERT INTO host (hostname, url, state, accounts)"
                " VALUES (%(h)s, 'https://' || %(h)s, %(s)s, 3)",
                {"h": f"{state}.example.com", "s": state},
            )
        for shard, seq in ((0, 70), (1, 50)):
            conn.execute(
                "INSERT INTO host_cursor (host, shard, seq) SELECT id, %s, %s FROM host"
                " WHERE state = 'streaming'",
                (shard, seq),
            )
    hosts = provider.pages(LIST_HOSTS, "hosts", limit=2)
    assert [host["hostname"] for host in hosts] == [
        "pds.example.com",
        *(f"{state}.example.com" for state in states),
    ]
    assert [host["status"] for host in hosts[1:]] == [*states.values()]
    status = "com.atproto.sync.getHostStatus"
    assert provider.get(status, hostname="Streaming.example.com") == {
        "hostname": "streaming.example.com",
        "accountCount": 3,
        "status": "active",
        "seq": 50,
    }
    banned = provider.get(status, hostname="banned.example.com")
    assert banned["status"] == "banned"
    for unknown in ("other.example.com", ""):
        with pytest.raises(RefusedError) as refused:
            provider.get(status, hostname=unknown)
        assert refused.value.name == "HostNotFound"
