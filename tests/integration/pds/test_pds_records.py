"""Writes and reads of records over HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pds_world import NOTE, Answer, Client, head, new_account, note, post

from protocol.data.cbor import encode
from protocol.data.cid import cid_to_text

CREATE = "com.atproto.repo.createRecord"
PUT = "com.atproto.repo.putRecord"
DELETE = "com.atproto.repo.deleteRecord"
APPLY = "com.atproto.repo.applyWrites"
GET = "com.atproto.repo.getRecord"
LIST = "com.atproto.repo.listRecords"
POST = "app.bsky.feed.post"


@pytest.fixture
def alice(server: Client) -> Client:
    return new_account(server)


def rkey_of(answer: Answer) -> str:
    return str(answer.json["uri"]).rpartition("/")[2]


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


def test_record_keeps_every_kind_of_value(alice: Client) -> None:
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


def test_put_creates_updates_and_skips(alice: Client) -> None:
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


def test_batch_is_atomic(alice: Client) -> None:
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
def test_bad_write_is_refused(
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


def test_missing_type_is_filled_in(alice: Client) -> None:
    answer = alice.post(
        CREATE, {"repo": alice.did, "collection": NOTE, "record": {"text": "x"}}
    )
    read = alice.get(GET, repo=alice.did, collection=NOTE, rkey=rkey_of(answer)).json
    assert read["value"]["$type"] == NOTE


def test_record_size_is_limited(alice: Client) -> None:
    overhead = len(encode(note("x" * 900_000))) - 900_000
    largest = 1_000_000 - overhead
    assert alice.create(note("x" * largest)).status == 200
    answer = alice.create(note("x" * (largest + 1)))
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    # Refused by its declared size.
    answer = alice.announce(f"/xrpc/{CREATE}", 2_200_000, "application/json")
    assert answer.status == 413


def test_write_requires_a_session(server: Client, alice: Client) -> None:
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
    # Neighbouring collections are not listed.
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


def test_errors_are_json_without_traces(alice: Client) -> None:
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
