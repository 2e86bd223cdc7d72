"""The directory over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from plc_accounts import NOW, OWNER, SERVER, genesis, legacy_create
from plc_client import Client, Clock, Reply

from network.server.listener import serving_in_thread
from plc.directory import MAX_BODY_BYTES, create_app
from plc.operation import DAY_MS, format_time, verify_audit_log
from plc.operation_draft import create_tombstone, create_update
from plc.operation_format import (
    Operation,
    did_for_genesis,
    operation_cid,
    operation_json,
    sign_operation,
)
from plc.submission_limits import SubmissionLimits
from protocol.identity.did_document import parse_did_document
from protocol.syntax import Did
from storage.postgres.pool import Pool


def test_directory_serves_an_account_until_its_recovery(directory: Client) -> None:
    did, first = genesis()
    assert directory.get(f"/{did}").status == 404
    assert directory.post(did, first).status == 200
    reply = directory.get(f"/{did}")
    assert reply.headers["content-type"].startswith("application/did+ld+json")
    document = parse_did_document(reply.json, did)
    assert document.handles == ("alice.test",)
    assert document.pds == "https://pds.example.com"
    assert directory.get(f"/{did}/data").json["rotationKeys"] == list(
        first.rotation_keys
    )

    directory.clock.now_ms += 1
    grave = create_tombstone(first, SERVER)
    assert directory.post(did, grave).status == 200
    for path in ("", "/data"):
        reply = directory.get(f"/{did}{path}")
        assert reply.status == 404
        assert reply.json == {"message": f"DID not available: {did}"}
    assert directory.get(f"/{did}/log/last").json == operation_json(grave)

    directory.clock.now_ms += 1
    rescue = create_update(first, OWNER, handle="bob.test")
    assert directory.post(did, rescue).status == 200
    assert directory.get(f"/{did}").json["alsoKnownAs"] == ["at://bob.test"]
    assert directory.get(f"/{did}/log").json == [
        operation_json(first),
        operation_json(rescue),
    ]
    entries = directory.get(f"/{did}/log/audit").json
    assert [e["nullified"] for e in entries] == [False, True, False]
    assert [e["createdAt"] for e in entries] == [format_time(NOW + n) for n in range(3)]
    assert verify_audit_log(did, entries).current.operation == rescue


def test_directory_refuses_invalid_operations(directory: Client) -> None:
    did, first = genesis()
    other, _ = genesis("other.test")
    old = legacy_create()
    tampered = operation_json(first) | {"alsoKnownAs": ["at://evil.test"]}
    good = json.dumps(operation_json(first)).encode()
    cases: list[tuple[str, bytes, int]] = [
        (did, b"", 400),
        (did, b"{}", 400),
        (did, b"[]", 400),
        (did, good[:-1], 400),
        (did, good[:-1] + b', "prev": null}', 400),
        (did, b"[" * 5_000, 400),
        (did, json.dumps(tampered).encode(), 400),
        (other, good, 400),
        ("did:web:alice.test", good, 400),
        ("x", good, 400),
        (did_for_genesis(old), json.dumps(operation_json(old)).encode(), 400),
        (did, good + b" " * MAX_BODY_BYTES, 413),
    ]
    for path, body, status in cases:
        reply = directory.get(f"/{path}", body)
        assert (reply.status, set(reply.json)) == (status, {"message"}), path
    assert directory.get("/export?after=0").body == b""
    assert directory.get(f"/{did}", good + b" " * 100).status == 200


ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**53, 2**64, "", "\0", "a\0b", "\u202e", "x" * 20_000),
    *([], [1], [[]], [None], ["\0"], ["x"] * 500),
    *({}, {"a": 1}, {"\0": "\0"}, {"a": {}}),
    *([{"$link": 5}], {"a": {"type": 1, "endpoint": "x"}}, {"a": {"type": "\0"}}),
    {"a": {"type": "\0", "endpoint": "\0"}},
]


@pytest.mark.parametrize("field", [*operation_json(genesis()[1]), "unknown"])
def test_odd_field_of_an_operation_causes_no_server_error(
    directory: Client, field: str
) -> None:
    did, first = genesis()
    for value in ODD_VALUES:
        body = json.dumps(operation_json(first) | {field: value}).encode()
        reply = directory.get(f"/{did}", body)
        assert reply.status in (200, 400, 409, 413), (value, reply.body)
    for raw in (b"1e400", b"NaN", b'"\\ud800"', b"1" * 5000, b"[" * 900 + b"]" * 900):
        body = b'{"%s": %s}' % (field.encode(), raw)
        assert directory.get(f"/{did}", body).status == 400, raw[:20]


@pytest.mark.parametrize("text", ["a\0b", "\u202e", "\U0001f600", "at://" + "x" * 200])
def test_signed_operation_with_odd_text_is_served_or_refused(
    directory: Client, text: str
) -> None:
    operation = sign_operation(replace(genesis()[1], also_known_as=(text,)), SERVER)
    did = did_for_genesis(operation)
    reply = directory.post(did, operation)
    assert reply.status in (200, 400), reply.body
    for path in ("", "/data", "/log", "/log/audit", "/log/last"):
        assert directory.get(f"/{did}{path}").status in (200, 404)
    assert directory.get("/export").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/did:plc:%00",
        "/did:plc:" + "a" * 24 + "%00/log",
        "/%FF",
        "/" + "a" * 9_000,
        "/export?count=%00",
        "/export?after=%00",
        "/export?after=" + "9" * 400,
        "/export?after=%FF",
        "/export?after=99999-99-99T99:99:99Z",
        "/export?count=-1",
        "/export?count=%D9%A3",
    ],
)
def test_odd_path_or_parameter_causes_no_server_error(
    directory: Client, path: str
) -> None:
    reply = directory.get(path)
    assert reply.status < 500
    if reply.status >= 400:
        assert set(reply.json) == {"message"}


@pytest.mark.parametrize("name", ["after", "count"])
def test_empty_parameter_of_the_export_is_absent(directory: Client, name: str) -> None:
    directory.post(*genesis())
    assert directory.get(f"/export?{name}=").body == directory.get("/export").body


def test_lost_race_and_full_quota_have_their_own_status(directory: Client) -> None:
    did, first = genesis()
    directory.post(did, first)
    directory.post(did, create_update(first, SERVER, handle="a.test"))
    lost = directory.post(did, create_update(first, SERVER, handle="b.test"))
    assert lost.status == 409
    last = create_update(first, SERVER, handle="a.test")
    for _ in range(8):
        last = create_update(last, SERVER)
        assert directory.post(did, last).status == 200
    full = directory.post(did, create_update(last, SERVER))
    assert full.status == 429
    assert full.headers["retry-after"] == "3600"
    directory.clock.now_ms += DAY_MS
    assert directory.post(did, create_update(last, SERVER)).status == 200


def test_submission_limits_of_an_address(plc_pool: Pool, clock: Clock) -> None:
    limits = SubmissionLimits(new_dids=3, operations=6, bypass_key="secret")
    with serving_in_thread(create_app(plc_pool, now_ms=clock, limits=limits)) as url:

        def submit(
            did: Did, operation: Operation, address: str = "192.0.2.1", **more: str
        ) -> Reply:
            headers = {"X-Forwarded-For": address} | more
            return Client(url, clock).post(did, operation, **headers)

        accounts = [genesis(n) for n in range(12)]
        assert [submit(*entry).status for entry in accounts[:3]] == [200] * 3
        refused = submit(*accounts[3])
        assert (refused.status, set(refused.json)) == (429, {"message"})
        assert 0 < int(refused.headers["retry-after"]) <= 300
        assert refused.headers["ratelimit-limit"] == "3"
        # Updates have their own limit.
        did, last = accounts[0]
        for _ in range(2):
            last = create_update(last, SERVER)
            assert submit(did, last).status == 200
        assert submit(did, create_update(last, SERVER)).status == 429
        assert submit(*accounts[4], "192.0.2.2").status == 200
        key = {"X-RateLimit-Bypass": "secret"}
        assert [submit(*e, **key).status for e in accounts[5:10]] == [200] * 5
        assert submit(*accounts[10], **{"X-RateLimit-Bypass": "guess"}).status == 429


def test_directory_errors_are_json(directory: Client) -> None:
    unknown = "/did:plc:" + "a" * 24
    cases = {
        unknown: 404,
        unknown + "/log": 404,
        unknown + "/log/audit": 404,
        unknown + "/log/last": 404,
        unknown + "/data": 404,
        "/did:web:alice.test": 404,
        "/favicon.ico": 404,
        "/a/b/c/d": 404,
        "/%00": 404,
        "/export?count=0": 400,
        "/export?count=x": 400,
        "/export?after=-1": 400,
        "/export?after=yesterday": 400,
        "/export/stream": 426,
    }
    replys = {path: directory.get(path) for path in cases}
    assert {path: reply.status for path, reply in replys.items()} == cases
    assert all(set(reply.json) == {"message"} for reply in replys.values())


def test_directory_health_and_cors(directory: Client) -> None:
    reply = directory.get("/_health", Origin="https://app.example.com")
    assert reply.json == {"version": "1.2"}
    assert reply.headers["access-control-allow-origin"] == "*"
    assert directory.get("/").status == 200


def test_export_by_number_and_by_time(directory: Client) -> None:
    accounts = [genesis(n) for n in range(5)]
    for did, first in accounts:
        directory.post(did, first)
        directory.clock.now_ms += 10
    reply = directory.get("/export?after=0&count=2")
    assert reply.headers["content-type"].startswith("application/jsonlines")
    (one, two) = reply.lines
    assert one == {
        "type": "sequenced_op",
        "seq": one["seq"],
        "did": accounts[0][0],
        "operation": operation_json(accounts[0][1]),
        "cid": operation_cid(accounts[0][1]),
        "createdAt": format_time(NOW),
    }
    rest = directory.get(f"/export?after={two['seq']}&count=99999").lines
    assert [line["did"] for line in rest] == [did for did, _ in accounts[2:]]

    by_time = directory.get("/export?count=2").lines
    assert [line["did"] for line in by_time] == [did for did, _ in accounts[:2]]
    assert by_time[0].keys() == {"did", "operation", "cid", "nullified", "createdAt"}
    after = by_time[1]["createdAt"]
    rest = directory.get(f"/export?after={after}").lines
    assert [line["did"] for line in rest] == [did for did, _ in accounts[2:]]
