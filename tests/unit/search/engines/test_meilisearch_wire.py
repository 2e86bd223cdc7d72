"""Requests to Meilisearch byte by byte, and the handling of its replies."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from contract_data import DIDS, document
from engines_under_test import meilisearch_at
from fake_meilisearch import FakeMeilisearch
from loopback_fakes import serving

from search.engines.contract import EngineUnavailableError
from search.engines.encoding import (
    address_of,
    document_id,
    encode_record,
    encode_token,
    encode_value,
    tier_of,
)
from search.engines.meilisearch import index_client as client_module
from search.engines.meilisearch.index_client import (
    MeiliClient,
    MeiliError,
    TaskFailedError,
)
from search.engines.meilisearch.plan import plan, query_text
from search.query.nodes import Kind, Words
from search.query.parser import parse_query
from storage.postgres.pool import Conn, Pool
from storage.records.addresses import Address

KEY = "very-secret-key"


@pytest.fixture
def fake() -> Iterator[FakeMeilisearch]:
    fake = FakeMeilisearch(key=KEY)
    with serving(fake) as fake.url:
        yield fake


@pytest.fixture
def client(fake: FakeMeilisearch) -> Iterator[MeiliClient]:
    client = MeiliClient(fake.url, KEY, sleep=lambda _: None)
    yield client
    client.close()


def test_settings_come_before_documents(
    pool: Pool, conn: Conn, fake: FakeMeilisearch
) -> None:
    engine = meilisearch_at(pool, fake.url, KEY, prefix="p")
    engine.put(conn, [document(1, "word")])
    writes = [
        (method, path)
        for method, path, _ in fake.calls
        if method != "GET" and not path.endswith("/fetch")
    ]
    assert writes == [
        ("POST", "/indexes"),
        ("PATCH", "/indexes/p_0_1/settings"),
        ("POST", "/indexes"),
        ("PATCH", "/indexes/p_0_actors/settings"),
        ("POST", "/indexes/p_0_1/documents"),
    ]
    settings = next(body for _, path, body in fake.calls if path.endswith("1/settings"))
    assert settings["proximityPrecision"] == "byWord"
    assert settings["rankingRules"][0] == "sort"
    assert settings["searchableAttributes"] == [
        "title",
        "text",
        "alt",
        "card",
        "quoted",
    ]
    engine.close()


def test_body_of_a_document() -> None:
    fields = encode_record(
        document(
            -3,
            "Hi 東京",
            tags=("It's",),
            langs=("en-US",),
            likes=5,
            domains=("a.example.com",),
        )
    )
    assert fields == {
        "id": document_id(Address(1, fields["collection"], -3)),
        "did": DIDS[1],
        "collection": fields["collection"],
        "actor": 1,
        "ts": 1_767_225_780_000_000,
        "tier": 2,
        "score": 5,
        "title": "",
        "text": fields["text"],
        "alt": "",
        "card": "",
        "quoted": "",
        "langs": ["en"],
        "tags": [encode_value(Kind.TAG, "it's")],
        "mentions": [],
        "domains": ["a.example.com", "example.com"],
        "urls": [],
        "features": [],
        "quotes": [],
        "parent": [],
        "root": [],
    }
    assert fields["text"].split()[:2] == ["hi", "x0" + "06771" + "04eac"]


def test_body_of_a_search(pool: Pool, conn: Conn, fake: FakeMeilisearch) -> None:
    engine = meilisearch_at(pool, fake.url, KEY, prefix="p")
    engine.put(conn, [document(1, "word")])
    query = parse_query(
        '"quick fox" word -slow #tag lang:en since:2026-01-01',
        resolve_handle=lambda _: None,
    )
    engine.search_records(
        query, collections=[3, 4], limit=7, after=[0, 1_767_225_600_000_009, "abc"]
    )
    [request] = [body for _, path, body in fake.calls if path == "/multi-search"]
    assert request == {
        "queries": [
            {
                "indexUid": "p_0_1",
                "q": '-"slow" "quick fox" "word"',
                "filter": [
                    "collection IN [3, 4]",
                    "ts >= 1767225600000000",
                    'tags = "tag"',
                    'langs = "en"',
                    '(ts < 1767225600000009 OR (ts = 1767225600000009 AND id < "abc"))',
                ],
                "sort": ["ts:desc", "id:desc"],
                "limit": 7,
                "matchingStrategy": "all",
                "attributesToRetrieve": ["id", "tier", "score", "ts"],
                "locales": ["eng"],
            }
        ]
    }
    engine.close()


@pytest.mark.parametrize(
    ("text", "parts", "check"),
    [
        ("a b c", ['"a" "b" "c"'], False),
        ("a OR b", ['"a"', '"b"'], False),
        ("(a OR b) c", ['"c" "a"', '"c" "b"'], False),
        ("-(a OR b) c", ['-"a" -"b" "c"'], False),
        ("-(a b) c", ['-"a" "c"', '-"b" "c"'], False),
        ('"a b c"', ['"a b c"'], True),
        ('d -"a b c"', ['"d"'], True),
        ("w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 longest", None, True),
        (" ".join(f"(a{n} OR b{n})" for n in range(8)), None, True),
    ],
)
def test_query_trees_become_searches(
    text: str, parts: list[str] | None, check: bool
) -> None:
    found = plan(parse_query(text, resolve_handle=lambda _: None).where)
    assert found.check == check
    assert len(found.parts) <= 16
    assert all(len(part.required) <= 10 for part in found.parts)
    if parts is not None:
        assert [query_text(part) for part in found.parts] == parts


def test_long_queries_keep_the_longest_words() -> None:
    words = [f"w{n}" for n in range(12)] + ["extraordinary"]
    text = " ".join(words)
    [part] = plan(parse_query(text, resolve_handle=lambda _: None).where).parts
    assert Words(("extraordinary",)) in part.required


@pytest.mark.parametrize("version", ["1.45.9", "0.30.0", "1.9.0"])
def test_old_servers_are_refused(
    pool: Pool, conn: Conn, fake: FakeMeilisearch, version: str
) -> None:
    fake.version = version
    engine = meilisearch_at(pool, fake.url, KEY)
    with pytest.raises(MeiliError, match=rf"{version} is too old; run 1\.46 or newer"):
        engine.put(conn, [document(1, "word")])
    assert fake.indexes == {}
    engine.close()


def test_keys_stay_out_of_errors(fake: FakeMeilisearch) -> None:
    client = MeiliClient(fake.url, "another-key")
    for call in (lambda: client.search([]), lambda: client.enqueued()):
        with pytest.raises(MeiliError) as caught:
            call()
        assert caught.value.code == "invalid_api_key"
        assert "another-key" not in repr(caught.value)
    client.close()
    client = MeiliClient("http://127.0.0.1:1", "another-key")
    for call in (lambda: client.search([]), lambda: client.enqueued()):
        with pytest.raises(EngineUnavailableError) as caught:
            call()
        assert "another-key" not in repr(caught.value)
    assert not client.healthy()
    client.close()


def test_failed_tasks_are_seen(client: MeiliClient, fake: FakeMeilisearch) -> None:
    client.create("x", {})
    fake.fail_tasks = 1
    tasks = client.put("x", [{"id": "a"}])
    with pytest.raises(TaskFailedError, match="no space left") as caught:
        client.wait(tasks)
    assert caught.value.code == "internal"


def test_tasks_without_an_end_are_given_up(fake: FakeMeilisearch) -> None:
    client = MeiliClient(fake.url, KEY, sleep=lambda _: None, task_s=0.05)
    fake.stuck = True
    with pytest.raises(MeiliError, match="is enqueued after"):
        client.create("x", {})
    client.close()


def test_a_busy_server_gets_no_more_tasks(
    client: MeiliClient, fake: FakeMeilisearch
) -> None:
    fake.busy = 220
    client.wait_for_room()
    assert [path for _, path, _ in fake.calls] == ["/tasks"] * 5


def test_batches_are_bounded_and_compressed(monkeypatch: Any) -> None:
    bodies: list[list[Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Content-Encoding"] == "gzip"
        assert request.headers["Content-Type"] == "application/x-ndjson"
        lines = gzip.decompress(request.content).split(b"\n")
        bodies.append([json.loads(line) for line in lines])
        return httpx.Response(202, json={"taskUid": len(bodies)})

    monkeypatch.setattr(client_module, "MAX_BATCH_BYTES", 1_000)
    monkeypatch.setattr(client_module, "MAX_BATCH_DOCUMENTS", 10)
    client = MeiliClient("http://x.test", transport=httpx.MockTransport(answer))
    sizes = [1, 900, 5, 2_000, *[1] * 25]
    sent = [{"id": str(i), "text": "x" * size} for i, size in enumerate(sizes)]
    assert len(client.put("x", sent)) == len(bodies)
    assert [one for body in bodies for one in body] == sent
    for body in bodies:
        assert len(body) <= 10
        assert len(body) == 1 or len(json.dumps(body)) < 1_300
    client.close()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (httpx.Response(200, content=b"<html>"), "without JSON"),
        (httpx.Response(200, content=b"[" + b"1," * 40_000_000), "over"),
        (httpx.Response(502, content=b"bad gateway"), "502 without JSON"),
        (httpx.Response(500, json=["odd"]), "500"),
    ],
)
def test_odd_replies_are_errors(reply: httpx.Response, message: str) -> None:
    client = MeiliClient(
        "http://x.test", transport=httpx.MockTransport(lambda _: reply)
    )
    with pytest.raises(EngineUnavailableError, match=message):
        client.search([])
    client.close()


def test_slow_servers_do_not_hold_requests(fake: FakeMeilisearch) -> None:
    client = MeiliClient(fake.url, KEY, serve_s=0.1)
    fake.answer = lambda *_: time.sleep(0.5)  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(MeiliError, match="in time"):
        client.search([])
    assert time.monotonic() - begun < 0.4
    client.close()


@pytest.mark.parametrize(
    "address",
    [
        Address(1, 2, 3),
        Address(2**31 - 1, 2**31 - 1, 2**63 - 1),
        Address(1, 1, -(2**63)),
        Address(0, 0, -1),
    ],
)
def test_ids_round_trip_and_are_safe(address: Address) -> None:
    found = document_id(address)
    assert address_of(found) == address
    assert found.replace("-", "").isalnum()
    assert found.isascii()


def test_ids_sort_as_addresses_do() -> None:
    keys = [-(2**63), -5, -1, 0, 1, 31, 32, 2**62, 2**63 - 1]
    addresses = [Address(a, c, k) for a in (1, 40) for c in (2, 33) for k in keys]
    assert sorted(addresses) == sorted(addresses, key=document_id)


@pytest.mark.parametrize(
    ("token", "encoded"),
    [
        ("word", "word"),
        ("привет", "привет"),
        ("東京", "x006771" + "04eac"),
        ("c++", "x00006300" + "02b0002b"),
        ("o'neil", None),
    ],
)
def test_tokens_are_words_for_any_analyzer(token: str, encoded: str | None) -> None:
    found = encode_token(token)
    assert encoded is None or found == encoded
    assert found.isalnum()


def test_tiers_are_powers_of_four() -> None:
    assert [tier_of(n) for n in (0, 1, 3, 4, 15, 16, 63, 64, 65_536)] == [
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        9,
    ]
