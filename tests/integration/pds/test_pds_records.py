"""Records, blobs and repo reads over HTTP."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from pds_world import Answer, Client, World, post, sign_up

from pds.blobs import sweep_blobs
from pds.host import utc_now
from protocol.data.cbor import decode, encode
from protocol.data.cid import cid_for, cid_to_text
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.mst import Tree, build_root
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit, verify_commit_signature
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did

CREATE = "com.atproto.repo.createRecord"
PUT = "com.atproto.repo.putRecord"
DELETE = "com.atproto.repo.deleteRecord"
APPLY = "com.atproto.repo.applyWrites"
GET = "com.atproto.repo.getRecord"
LIST = "com.atproto.repo.listRecords"
UPLOAD = "com.atproto.repo.uploadBlob"
POST = "app.bsky.feed.post"
NOTE = "dev.example.note"
SERVER = {"max_blob_bytes": 1_000_000, "max_account_blob_bytes": 1_500_000}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


_names = iter(range(10_000))


@pytest.fixture
def alice(server: Client) -> Client:
    return sign_up(server, f"alice{next(_names)}.a.test")


def note(text: str, **more: Any) -> dict[str, Any]:
    return {"$type": NOTE, "text": text} | more


def head(client: Client) -> dict[str, str]:
    found: dict[str, str] = client.get(
        "com.atproto.sync.getLatestCommit", did=client.did
    ).json
    return found


def rkey_of(answer: Answer) -> str:
    return str(answer.json["uri"]).rpartition("/")[2]


def signing_key(client: Client) -> PublicKey:
    described = client.get("com.atproto.repo.describeRepo", repo=client.did).json
    multikey = described["didDoc"]["verificationMethod"][0]["publicKeyMultibase"]
    return parse_did_key("did:key:" + multikey)


def test_record_is_written_and_read(server: Client, alice: Client) -> None:
    record = post("hello", langs=["en"])
    answer = alice.create(record)
    assert answer.status == 200
    written = answer.json
    assert written["validationStatus"] == "valid"
    assert written["commit"] == head(alice)
    assert written["uri"].startswith(f"at://{alice.did}/{POST}/3")
    rkey = rkey_of(answer)
    read = server.get(GET, repo=alice.did, collection=POST, rkey=rkey).json
    assert read == {"uri": written["uri"], "cid": written["cid"], "value": record}
    exact = server.get(
        GET, repo=alice.did, collection=POST, rkey=rkey, cid=written["cid"]
    )
    assert exact.status == 200
    for params in (
        {"rkey": "other"},
        {"collection": NOTE},
        {"cid": written["commit"]["cid"]},
    ):
        asked = {"repo": alice.did, "collection": POST, "rkey": rkey} | params
        answer = server.get(GET, **asked)
        assert (answer.status, answer.error) == (400, "RecordNotFound")
    described = server.get("com.atproto.repo.describeRepo", repo=alice.did).json
    assert described["collections"] == [POST]


def test_values_of_every_kind_survive_a_round_trip(alice: Client) -> None:
    cid = alice.create(note("first")).json["cid"]
    record = note(
        "\u0000 \U0001f600 \u202e",
        number=-(2**63),
        big=2**53 + 1,
        flag=False,
        nothing=None,
        link={"$link": cid},
        data={"$bytes": "AAEC"},
        nested=[[], {}, [{"$type": "x.y.z", "$other": 1}]],
    )
    answer = alice.create(record, rkey="all~kinds:of._-things")
    assert answer.json["validationStatus"] == "unknown"
    read = alice.get(GET, repo=alice.did, collection=NOTE, rkey="all~kinds:of._-things")
    assert read.json["value"] == record


def test_put_creates_updates_and_skips_equal_records(alice: Client) -> None:
    def put(text: str, **more: Any) -> Answer:
        fields = {"repo": alice.did, "collection": NOTE, "rkey": "x"}
        return alice.post(PUT, fields | {"record": note(text)} | more)

    first = put("one")
    assert first.json["commit"] == head(alice)
    again = put("one")
    assert again.status == 200
    assert "commit" not in again.json
    assert again.json["cid"] == first.json["cid"]
    second = put("two", swapRecord=first.json["cid"])
    assert second.status == 200
    for swap in (first.json["cid"], None):
        lost = put("three", swapRecord=swap)
        assert (lost.status, lost.error) == (400, "InvalidSwap")
    lost = put("three", swapCommit=first.json["commit"]["cid"])
    assert (lost.status, lost.error) == (400, "InvalidSwap")
    won = put("three", swapCommit=second.json["commit"]["cid"])
    assert won.status == 200


def test_delete_is_idempotent(alice: Client) -> None:
    written = alice.create(note("x"), rkey="x").json
    fields = {"repo": alice.did, "collection": NOTE, "rkey": "x"}
    wrong = alice.post(DELETE, fields | {"swapRecord": written["commit"]["cid"]})
    assert wrong.error == "InvalidSwap"
    gone = alice.post(DELETE, fields | {"swapRecord": written["cid"]})
    assert gone.json["commit"] == head(alice)
    again = alice.post(DELETE, fields)
    assert (again.status, again.json) == (200, {})
    described = alice.get("com.atproto.repo.describeRepo", repo=alice.did).json
    assert described["collections"] == []


def test_batch_is_one_commit(server: Client, alice: Client) -> None:
    kept = alice.create(note("kept"), rkey="kept").json["cid"]
    alice.create(note("gone"), rkey="gone")
    writes = [
        {"$type": f"{APPLY}#create", "collection": POST, "value": post("in a batch")},
        {
            "$type": f"{APPLY}#update",
            "collection": NOTE,
            "rkey": "kept",
            "value": note("changed"),
        },
        {"$type": f"{APPLY}#delete", "collection": NOTE, "rkey": "gone"},
    ]
    with server.subscribe() as receive:
        answer = alice.post(APPLY, {"repo": alice.did, "writes": writes})
        assert answer.status == 200
        event = receive()
    results = answer.json["results"]
    assert [item["$type"].partition("#")[2] for item in results] == [
        "createResult",
        "updateResult",
        "deleteResult",
    ]
    assert [item.get("validationStatus") for item in results] == [
        "valid",
        "unknown",
        None,
    ]
    assert answer.json["commit"] == head(alice)
    assert event.body["rev"] == answer.json["commit"]["rev"]
    assert [op["action"] for op in event.body["ops"]] == ["create", "update", "delete"]
    assert cid_to_text(event.body["ops"][1]["prev"]) == kept


def test_batch_is_all_or_nothing(alice: Client) -> None:
    before = head(alice)
    good = {"$type": f"{APPLY}#create", "collection": NOTE, "value": note("good")}
    bad = [
        {"$type": f"{APPLY}#create", "collection": POST, "value": post("x" * 301)},
        {"$type": f"{APPLY}#delete", "collection": NOTE, "rkey": "missing"},
        {
            "$type": f"{APPLY}#update",
            "collection": NOTE,
            "rkey": "missing",
            "value": note("x"),
        },
    ]
    for write in bad:
        answer = alice.post(APPLY, {"repo": alice.did, "writes": [good, write]})
        assert answer.status == 400
        assert answer.error == "InvalidRequest"
    many = {"repo": alice.did, "writes": [good] * 201}
    assert alice.post(APPLY, many).error == "InvalidRequest"
    assert head(alice) == before
    full = {"repo": alice.did, "writes": [good] * 200}
    assert len(alice.post(APPLY, full).json["results"]) == 200
    assert alice.post(APPLY, {"repo": alice.did, "writes": []}).json == {"results": []}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"record": post("x" * 301)}, "InvalidRequest"),
        ({"record": {"$type": POST, "text": "no date"}}, "InvalidRequest"),
        ({"record": {"$type": NOTE}}, "InvalidRequest"),
        ({"record": post("x", count=1.5)}, "InvalidRequest"),
        ({"record": post("x", big=2**63)}, "InvalidRequest"),
        ({"record": post("x", link={"$link": "nonsense"})}, "InvalidRequest"),
        ({"record": []}, "InvalidRequest"),
        ({"rkey": "not-a-tid"}, "InvalidRequest"),
        ({"rkey": "a/b"}, "InvalidRequest"),
        ({"rkey": ".."}, "InvalidRequest"),
        ({"collection": "nonsense"}, "InvalidRequest"),
        ({"collection": NOTE, "record": note("x"), "validate": True}, "InvalidRequest"),
        ({"repo": "did:plc:" + "a" * 24}, "AuthenticationRequired"),
        ({"repo": "bob.a.test"}, "AuthenticationRequired"),
        ({"swapCommit": "nonsense"}, "InvalidSwap"),
    ],
)
def test_invalid_write_is_refused(
    alice: Client, changes: dict[str, Any], error: str
) -> None:
    before = head(alice)
    fields = {"repo": alice.did, "collection": POST, "record": post("fine")} | changes
    answer = alice.post(CREATE, fields)
    assert answer.error == error
    assert answer.status == (401 if error == "AuthenticationRequired" else 400)
    assert head(alice) == before


def test_validation_can_be_waived(alice: Client) -> None:
    answer = alice.create(post("x" * 301), validate=False)
    assert answer.status == 200
    assert "validationStatus" not in answer.json


def test_missing_type_is_added(alice: Client) -> None:
    answer = alice.post(
        CREATE, {"repo": alice.did, "collection": NOTE, "record": {"text": "x"}}
    )
    read = alice.get(GET, repo=alice.did, collection=NOTE, rkey=rkey_of(answer)).json
    assert read["value"]["$type"] == NOTE


def test_record_over_the_size_limit_is_refused(alice: Client) -> None:
    overhead = len(encode(note("x" * 900_000))) - 900_000
    largest = 1_000_000 - overhead
    assert alice.create(note("x" * largest)).status == 200
    answer = alice.create(note("x" * (largest + 1)))
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    # Refused by its size alone, before anything of it was read.
    answer = alice.announce(f"/xrpc/{CREATE}", 2_200_000, "application/json")
    assert answer.status == 413


def test_write_without_a_session_is_refused(server: Client, alice: Client) -> None:
    fields = {"repo": alice.did, "collection": NOTE, "record": note("x")}
    answer = server.post(CREATE, fields)
    assert (answer.status, answer.error) == (401, "AuthMissing")


def test_records_are_listed_in_pages(alice: Client) -> None:
    writes = [
        {
            "$type": f"{APPLY}#create",
            "collection": NOTE,
            "rkey": f"k{n:02d}",
            "value": note(str(n)),
        }
        for n in range(25)
    ]
    alice.post(APPLY, {"repo": alice.did, "writes": writes})
    # Collections that sort beside it must not show.
    for collection in ("dev.example.not", "dev.example.note.more", "dev.example.notes"):
        alice.create({"$type": collection})

    def walk(**params: Any) -> list[str]:
        found: list[str] = []
        cursor: dict[str, Any] = {}
        while True:
            page = alice.get(
                LIST, repo=alice.did, collection=NOTE, limit=10, **params, **cursor
            ).json
            found += [item["uri"].rpartition("/")[2] for item in page["records"]]
            if "cursor" not in page:
                return found
            cursor = {"cursor": page["cursor"]}

    forward = [f"k{n:02d}" for n in range(25)]
    assert walk(reverse="true") == forward
    assert walk() == forward[::-1]
    described = alice.get("com.atproto.repo.describeRepo", repo=alice.did).json
    assert described["collections"] == [
        "dev.example.not",
        NOTE,
        "dev.example.note.more",
        "dev.example.notes",
    ]
    forged = alice.get(LIST, repo=alice.did, collection=NOTE, cursor="azA")
    assert (forged.status, forged.error) == (400, "InvalidCursor")


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


def test_get_record_proves_presence_or_absence(alice: Client) -> None:
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


def test_get_blocks_returns_blocks_by_cid(alice: Client) -> None:
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
    other = sign_up(alice, f"other{next(_names)}.a.test")
    answer = alice.get("com.atproto.sync.getBlocks", did=other.did, cids=cids)
    assert answer.error == "BlockNotFound"


def test_repos_are_listed_in_pages(server: Client, alice: Client) -> None:
    bob = sign_up(server, f"bob{next(_names)}.a.test")
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
    "nsid",
    ["getRepo", "getLatestCommit", "getRepoStatus", "listBlobs"],
)
def test_unknown_repo_is_not_found(server: Client, nsid: str) -> None:
    answer = server.get(f"com.atproto.sync.{nsid}", did="did:plc:" + "z" * 24)
    assert (answer.status, answer.error) == (400, "RepoNotFound")


def upload(client: Client, data: bytes, mime: str | None = "image/png") -> Answer:
    headers = {} if mime is None else {"Content-Type": mime}
    return client.send("POST", f"/xrpc/{UPLOAD}", body=data, headers=headers)


def blob_cids(client: Client, **params: Any) -> list[str]:
    listed = client.get("com.atproto.sync.listBlobs", did=client.did, **params)
    found: list[str] = listed.json["cids"]
    return found


def fetch_blob(client: Client, cid: str) -> Answer:
    return client.get("com.atproto.sync.getBlob", did=client.did, cid=cid)


def test_blob_is_hidden_until_a_record_refers_to_it(
    world: World, alice: Client
) -> None:
    blob = upload(alice, PNG).json["blob"]
    assert (blob["$type"], blob["mimeType"], blob["size"]) == (
        "blob",
        "image/png",
        len(PNG),
    )
    cid = blob["ref"]["$link"]
    assert fetch_blob(alice, cid).error == "BlobNotFound"
    assert blob_cids(alice) == []
    written = alice.create(note("x", picture=blob), rkey="x")
    assert written.status == 200
    assert blob_cids(alice) == [cid]
    got = fetch_blob(alice, cid)
    assert (got.status, got.body) == (200, PNG)
    assert got.headers["Content-Type"] == "image/png"
    assert got.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Disposition"] == f'attachment; filename="{cid}"'
    assert blob_cids(alice, since=head(alice)["rev"]) == []
    alice.post(
        PUT,
        {"repo": alice.did, "collection": NOTE, "rkey": "x"}
        | {"record": note("no picture")},
    )
    assert fetch_blob(alice, cid).error == "BlobNotFound"
    # It may still be named again, until the sweep after some hours.
    with world.pool("a").connection() as conn:
        assert sweep_blobs(conn, utc_now() - timedelta(hours=6)) == 0
    assert alice.create(note("y", picture=blob), rkey="y").status == 200
    with world.pool("a").connection() as conn:
        assert sweep_blobs(conn, utc_now() + timedelta(hours=1)) == 0
    alice.post(DELETE, {"repo": alice.did, "collection": NOTE, "rkey": "y"})
    with world.pool("a").connection() as conn:
        assert sweep_blobs(conn, utc_now() + timedelta(hours=1)) == 1
    answer = alice.create(note("z", picture=blob))
    assert (answer.status, answer.error) == (400, "BlobNotFound")


def test_blob_reference_must_match_the_upload(alice: Client) -> None:
    blob = upload(alice, PNG).json["blob"]
    for changes, error in [
        ({"mimeType": "image/jpeg"}, "InvalidMimeType"),
        ({"size": 1}, "InvalidSize"),
        ({"ref": {"$link": alice.create(note("x")).json["cid"]}}, "InvalidRequest"),
    ]:
        answer = alice.create(note("x", picture=blob | changes))
        assert (answer.status, answer.error) == (400, error)
    other = sign_up(alice, f"other{next(_names)}.a.test")
    assert other.create(note("x", picture=blob)).error == "BlobNotFound"


def test_the_lexicon_bounds_blobs_of_known_records(alice: Client) -> None:
    blob = upload(alice, b"some text", "text/plain").json["blob"]
    profile = {"$type": "app.bsky.actor.profile", "avatar": blob}
    answer = alice.create(profile, rkey="self")
    assert (answer.status, answer.error) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("data", "mime", "status", "error"),
    [
        (PNG, "nonsense", 400, "InvalidMimeType"),
        (PNG, "", 400, "InvalidRequest"),
    ],
)
def test_invalid_upload_is_refused(
    alice: Client, data: bytes, mime: str, status: int, error: str
) -> None:
    answer = upload(alice, data, mime)
    assert (answer.status, answer.error) == (status, error)


def test_empty_blob_is_stored(alice: Client) -> None:
    blob = upload(alice, b"", "text/plain").json["blob"]
    assert (blob["mimeType"], blob["size"]) == ("text/plain", 0)
    assert alice.create(note("x", file=blob)).status == 200
    got = fetch_blob(alice, blob["ref"]["$link"])
    assert (got.status, got.body) == (200, b"")


def test_blob_is_served_in_ranges(alice: Client) -> None:
    blob = upload(alice, PNG).json["blob"]
    alice.create(note("x", picture=blob))
    cid = blob["ref"]["$link"]
    path = f"/xrpc/com.atproto.sync.getBlob?did={alice.did}&cid={cid}"
    whole = alice.send("GET", path)
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = alice.send("GET", path, headers={"Range": "bytes=1-3"})
    assert (part.status, part.body) == (206, b"PNG")
    assert part.headers["Content-Range"] == f"bytes 1-3/{len(PNG)}"
    assert part.headers["Content-Length"] == "3"
    for name in ("Content-Security-Policy", "Content-Disposition", "Content-Type"):
        assert part.headers[name] == whole.headers[name]
    behind = alice.send("GET", path, headers={"Range": "bytes=900-"})
    assert (behind.status, behind.error) == (416, "RangeNotSatisfiable")
    assert behind.headers["Content-Range"] == f"bytes */{len(PNG)}"
    changed = {"Range": "bytes=1-3", "If-Range": '"another"'}
    assert alice.send("GET", path, headers=changed).body == PNG
    head_only = alice.send("HEAD", path)
    assert (head_only.status, head_only.body) == (200, b"")
    assert head_only.headers["Content-Length"] == str(len(PNG))


OLD_BLOB = {
    "cid": "bafkreigyia5vqnnpapjc6p5k23ukzc47kadxhbeuzfvjq52bftz7k2d56a",
    "mimeType": "image/jpeg",
}


@pytest.mark.parametrize("validate", [{}, {"validate": True}, {"validate": False}])
def test_legacy_blob_in_a_known_record_is_refused(
    alice: Client, validate: dict[str, bool]
) -> None:
    profile = {"$type": "app.bsky.actor.profile", "avatar": OLD_BLOB}
    answer = alice.create(profile, rkey="self", **validate)
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    message = answer.json["message"]
    assert "avatar" in message or OLD_BLOB["cid"] in message


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (OLD_BLOB, 400),
        ([{"deep": OLD_BLOB}], 400),
        (OLD_BLOB | {"alt": "a field more"}, 200),
        (OLD_BLOB | {"cid": "no CID"}, 200),
        (OLD_BLOB | {"mimeType": 5}, 200),
    ],
)
def test_legacy_blob_anywhere_is_refused(
    alice: Client, value: Any, status: int
) -> None:
    answers = [alice.create(note("x", value=value), validate=v) for v in (False,)]
    answers.append(alice.create(note("x", value=value)))
    writes = [
        {"$type": f"{APPLY}#create", "collection": NOTE, "value": note("x", v=value)}
    ]
    answers.append(alice.post(APPLY, {"repo": alice.did, "writes": writes}))
    fields = {"repo": alice.did, "collection": NOTE, "rkey": "x"}
    answers.append(alice.post(PUT, fields | {"record": note("x", value=value)}))
    assert [answer.status for answer in answers] == [status] * 4
    if status == 400:
        assert {answer.json["message"] for answer in answers} == {
            f"Legacy blobs are not allowed ({OLD_BLOB['cid']})"
        }


def test_invalid_record_names_its_field(alice: Client) -> None:
    image = {"alt": 5, "image": upload(alice, PNG).json["blob"]}
    embed = {"$type": "app.bsky.embed.images", "images": [image]}
    answer = alice.create(post("x", embed=embed))
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    assert f"Invalid {POST} record: embed.images[0].alt" in answer.json["message"]


def test_upload_over_the_size_limit_is_refused(alice: Client) -> None:
    path = f"/xrpc/{UPLOAD}"
    answer = alice.announce(path, 1_000_001, "application/x-big")
    assert (answer.status, answer.error) == (413, "PayloadTooLarge")
    # The largest there may be passes.
    assert upload(alice, bytes(1_000_000), "application/x-big").status == 200


def test_account_has_a_blob_quota(alice: Client) -> None:
    assert upload(alice, bytes(900_000), "application/x-a").status == 200
    assert upload(alice, bytes(900_000), "application/x-a").status == 200
    answer = upload(alice, bytes(900_001), "application/x-a")
    assert (answer.status, answer.error) == (413, "BlobTooLarge")


def test_truncated_upload_leaves_nothing(world: World, alice: Client) -> None:
    def stored() -> int:
        with world.pool("a").connection() as conn:
            row = conn.execute("SELECT count(*) FROM blob").fetchone()
        assert row is not None
        return int(row[0])

    before = stored()
    address = urllib.parse.urlsplit(alice.url).netloc
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.putrequest("POST", f"/xrpc/{UPLOAD}")
    connection.putheader("Authorization", f"Bearer {alice.token}")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(len(PNG) + 100))
    connection.endheaders(PNG)
    connection.close()
    assert alice.create(note("still here")).status == 200
    assert stored() == before


@pytest.mark.parametrize(
    "cid",
    [
        "nonsense",
        "../../etc/passwd",
        'x"\r\nSet-Cookie: a=b',
        cid_to_text(b"\x01\x55\x12\x20" + bytes(32)),
        cid_to_text(b"\x01\x71\x12\x20" + bytes(32)),
    ],
)
def test_odd_blob_cid_is_refused(alice: Client, cid: str) -> None:
    answer = fetch_blob(alice, cid)
    assert answer.status == 400
    assert answer.error in ("BlobNotFound", "InvalidRequest")
    assert "Set-Cookie" not in answer.headers


def test_concurrent_swaps_have_one_winner(alice: Client) -> None:
    alice.create(note("0"), rkey="x")
    for _ in range(3):
        commit = head(alice)["cid"]

        def attempt(n: int, commit: str = commit) -> Answer:
            fields = {"repo": alice.did, "collection": NOTE, "rkey": "x"}
            return alice.post(
                PUT, fields | {"record": note(f"{commit} {n}"), "swapCommit": commit}
            )

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(attempt, range(8)))
        assert sorted(answer.status for answer in answers) == [200] + [400] * 7
        assert {a.error for a in answers if a.status == 400} == {"InvalidSwap"}


def test_errors_are_json_without_tracebacks(alice: Client) -> None:
    for method, path in [
        ("GET", "/xrpc/com.atproto.repo.createRecord"),
        ("POST", "/xrpc/com.atproto.repo.getRecord"),
        ("GET", "/xrpc/com.atproto.repo.getRecord"),
        ("GET", "/xrpc/nonsense"),
        ("DELETE", "/xrpc/com.atproto.repo.getRecord"),
    ]:
        answer = alice.send(method, path)
        assert 400 <= answer.status <= 501
        assert set(answer.json) == {"error", "message"}
        assert "Traceback" not in json.dumps(answer.json)


def test_root_follows_from_the_record_rows(world: World, alice: Client) -> None:
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
