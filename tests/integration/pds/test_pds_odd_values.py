"""Odd values in every parameter, field and header of the PDS: never a 5xx."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from pds_world import PASSWORD, Client, basic_login, sign_up
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pds.server.operator_login import is_operator_method
from protocol.events.frames import decode_frame
from protocol.lexicon import Catalog, Method

NOTE = "dev.example.note"
LONG = "x" * 20_000
# Values in a query string, already escaped.
QUERY_VALUES = [
    *("", "%00", "a%00b", "%FF", "%ED%A0%80", "%E2%80%AE", "%20", "..", "a/b", "%zz"),
    *("-1", "0", "1.5", "1e400", "9" * 19, "9" * 400, "NaN", "%D9%A3", "null", "true"),
    *("did:plc:%00", "did:web:%00", "did:plc:" + "a" * 3000, "did:web:localhost%3A1"),
    *("at://x", "bafkreigyia5vqnnpapjc6p5k23ukzc47kadxhbeuzfvjq52bftz7k2d56a", LONG),
    *("{}", "[]", "';--", "a&a=b", "a;b", "+", "3jzfcijpj2z2a"),
]
# Values in JSON text.
JSON_VALUES = [
    *("null", "true", "0", "-1", "1.5", "1e400", "9223372036854775808", "1" * 5000),
    *('""', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\u202e"', '" "', '".."'),
    *('"did:plc:x"', '"did:web:\\u0000"', '"a@b\\u0000.c"', json.dumps(LONG)),
    *("[]", "[1]", "[[]]", "{}", '{"$link": 5}', '{"$bytes": "!"}', '{"$type": 5}'),
    *('{"a\\u0000": 1}', '{"$type": "blob", "ref": "x"}', '{"a": 1, "a": 2}', "NaN"),
    "[" * 60 + "]" * 60,
    "[" * 3000 + "]" * 3000,
]


@pytest.fixture(scope="module")
def methods(server: Client) -> list[Method]:
    """Return every method that the server has itself."""
    catalog = Catalog.load()
    paths = server.send("GET", "/openapi.json").json["paths"]
    found = [catalog.method(path.removeprefix("/xrpc/")) for path in paths]
    assert len(found) > 25
    return [method for method in found if method is not None]


def sound_values(client: Client) -> dict[str, Any]:
    """Return a valid value for each required field of each method."""
    write = {
        "$type": "com.atproto.repo.applyWrites#create",
        "collection": NOTE,
        "value": {"text": "x"},
    }
    return {
        "did": client.did,
        "repo": client.did,
        "collection": NOTE,
        "rkey": "x",
        "cid": "bafkreigyia5vqnnpapjc6p5k23ukzc47kadxhbeuzfvjq52bftz7k2d56a",
        "cids": ["bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"],
        "handle": "nobody.a.test",
        "aud": "did:web:a.example",
        "identifier": "nobody.a.test",
        "password": "wrong password",
        "token": "nonsense",
        "record": {"text": "x"},
        "writes": [write],
        "preferences": [],
        "operation": {"type": "plc_operation"},
        "useCount": 1,
        "codeCount": 1,
        "name": "an app",
        "account": client.did,
        "dids": [client.did],
        "subject": {"$type": "com.atproto.admin.defs#repoRef", "did": client.did},
        "recipientDid": client.did,
        "senderDid": client.did,
        "content": "x",
        "email": "nobody@example.com",
    }


def test_odd_parameter_does_not_cause_a_server_error(
    server: Client, methods: list[Method]
) -> None:
    alice = sign_up(server, "alice.a.test")
    alice.create({"$type": NOTE}, rkey="x")
    sound = sound_values(alice)
    broken = []
    for method in methods:
        fields = {} if method.params is None else method.params.get("properties", {})
        required = [] if method.params is None else method.params.get("required", [])
        for name in fields:
            others = {n: sound[n] for n in required if n != name}
            base = urllib.parse.urlencode(others, doseq=True)
            for value in QUERY_VALUES:
                path = f"/xrpc/{method.nsid}?{base}&{name}={value}"
                headers = basic_login() if is_operator_method(method.nsid) else {}
                answer = alice.send("GET", path, headers=headers)
                if answer.status >= 500:
                    broken.append((method.nsid, name, value[:40], answer.body[:200]))
    assert broken == []


def test_empty_cursor_and_since_are_absent(
    server: Client, methods: list[Method]
) -> None:
    erin = sign_up(server, "erin.a.test")
    erin.create({"$type": NOTE}, rkey="x")
    sound = sound_values(erin)
    tried = []
    for method in methods:
        params = {} if method.params is None else method.params
        for name in {"cursor", "since"} & set(params.get("properties", {})):
            if method.kind == "subscription":
                continue
            others = {key: sound[key] for key in params.get("required", [])}
            call = erin.get
            if is_operator_method(method.nsid):
                call = partial(erin.operate, body=None)
            without = call(method.nsid, **others)
            assert without.status == 200
            assert call(method.nsid, **others, **{name: ""}).body == without.body
            tried.append(name)
    assert sorted(tried) == ["cursor"] * 6 + ["since"] * 2
    url = server.url.replace("http", "ws", 1)
    url += "/xrpc/com.atproto.sync.subscribeRepos?cursor="
    with connect(url, close_timeout=0.1) as socket:
        erin.create({"$type": NOTE}, rkey="y")
        frame = socket.recv(timeout=10)
    assert isinstance(frame, bytes)
    assert decode_frame(frame).body["repo"] == erin.did


def test_odd_field_does_not_cause_a_server_error(
    server: Client, methods: list[Method]
) -> None:
    bob = sign_up(server, "bob.a.test")
    sound = sound_values(bob)
    broken = []
    for method in methods:
        schema = None if method.input is None else method.input.schema
        if schema is None:
            continue
        fields = schema["properties"]
        for name in [*fields, "unknown"]:
            required = schema.get("required", [])
            others = {n: sound[n] for n in required if n != name}
            base = "".join(
                f"{json.dumps(key)}: {json.dumps(value)}, "
                for key, value in others.items()
            )
            for value in JSON_VALUES:
                body = f"{{{base}{json.dumps(name)}: {value}}}".encode()
                answer = bob.send(
                    "POST",
                    f"/xrpc/{method.nsid}",
                    body=body,
                    headers={"Content-Type": "application/json"}
                    | (basic_login() if is_operator_method(method.nsid) else {}),
                )
                if answer.status >= 500:
                    broken.append((method.nsid, name, value[:40], answer.body[:200]))
    assert broken == []


@pytest.mark.parametrize("value", JSON_VALUES)
def test_odd_record_value_is_stored_or_refused(server: Client, value: str) -> None:
    record = f'{{"$type": "{NOTE}", "value": {value}}}'
    for more in ("", ', "validate": false'):
        carol = server.carol  # type: ignore[attr-defined]
        body = (
            f'{{"repo": "{carol.did}", "collection": "{NOTE}",'
            f' "record": {record}{more}}}'
        )
        answer = carol.send(
            "POST",
            "/xrpc/com.atproto.repo.createRecord",
            body=body.encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status in (200, 400), answer.body
        if answer.status == 400:
            assert answer.error == "InvalidRequest"
            continue
        rkey = answer.json["uri"].rpartition("/")[2]
        read = carol.get(
            "com.atproto.repo.getRecord", repo=carol.did, collection=NOTE, rkey=rkey
        )
        assert read.json["value"]["value"] == json.loads(value)


@pytest.fixture(scope="module", autouse=True)
def _carol(server: Client) -> None:
    server.carol = sign_up(server, "carol.a.test")  # type: ignore[attr-defined]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 400, "%00", "9" * 18])
def test_odd_stream_cursor_is_refused(server: Client, cursor: str) -> None:
    url = server.url.replace("http", "ws", 1)
    url += f"/xrpc/com.atproto.sync.subscribeRepos?cursor={cursor}"
    try:
        with connect(url, close_timeout=0.1) as socket:
            status = 101
            assert isinstance(socket.recv(timeout=10), bytes)
    except InvalidStatus as error:
        status = error.response.status_code
    assert status in (101, 400)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/xrpc/%00", {}),
        ("GET", "/xrpc/" + "a." * 4000, {}),
        (
            "GET",
            "/xrpc/com.atproto.server.getSession",
            {"Authorization": "Bearer \xff"},
        ),
        ("GET", "/xrpc/com.atproto.server.getSession", {"Authorization": "\xff \xff"}),
        ("GET", "/xrpc/a.b.c", {"Authorization": "Bearer " + "a" * 9000}),
        ("GET", "/.well-known/atproto-did", {"Host": "\xff"}),
        ("GET", "/.well-known/atproto-did", {"Host": "a" * 9000}),
        ("POST", "/xrpc/com.atproto.repo.uploadBlob", {"Content-Type": "\xff/\xff"}),
    ],
)
def test_odd_path_or_header_does_not_cause_a_server_error(
    server: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    address = urllib.parse.urlsplit(server.url).netloc
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders()
        status = connection.getresponse().status
    assert 400 <= status < 500 or status == 501


def test_password_may_be_any_text(server: Client) -> None:
    for number, password in enumerate(("a\0b" * 4, "\u202e" * 9, PASSWORD + " ")):
        fields = {"handle": f"odd{number}.a.test", "password": password}
        made = server.post("com.atproto.server.createAccount", fields)
        login = {"identifier": fields["handle"], "password": password}
        assert made.status == 200
        assert server.post("com.atproto.server.createSession", login).status == 200
