"""Requests to OpenSearch byte by byte, and the handling of its replies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from contract_data import actor, document
from fake_opensearch import FakeOpenSearch
from loopback_fakes import serving

from search.engines.contract import EngineUnavailableError
from search.engines.encoding import document_id
from search.engines.opensearch import cluster_client as client_module
from search.engines.opensearch.cluster_client import (
    OpenSearchClient,
    OpenSearchError,
)
from search.engines.opensearch.cluster_engine import OpenSearchEngine
from search.query.parser import parse_query
from storage.postgres.pool import Conn, Pool
from storage.records.addresses import Address

KEY = "user:very-secret"
_POST = document(1, "").address.collection


@pytest.fixture
def fake() -> FakeOpenSearch:
    return FakeOpenSearch(key=KEY)


@pytest.fixture
def engine(fake: FakeOpenSearch, pool: Pool) -> Iterator[OpenSearchEngine]:
    with serving(fake) as url:
        engine = OpenSearchEngine(pool, OpenSearchClient(url, KEY), prefix="p")
        yield engine
        engine.close()


def test_templates_come_before_indexes_and_documents(
    engine: OpenSearchEngine, fake: FakeOpenSearch, conn: Conn
) -> None:
    engine.put(conn, [document(1, "word"), actor(1, "a.test", "", "", 0)])
    assert [(method, path) for method, path, _ in fake.calls] == [
        ("GET", "/"),
        ("PUT", "/_index_template/p_records"),
        ("PUT", "/p_0_records"),
        ("PUT", "/_index_template/p_actors"),
        ("PUT", "/p_0_actors"),
        ("GET", "/p_0_actors/_count"),
        ("POST", "/p_0_records/_search"),
        ("POST", "/_bulk?refresh=wait_for"),
    ]
    body = fake.templates["p_records"]
    assert body["index_patterns"] == ["p_*_records"]
    text = body["template"]["mappings"]["properties"]["text"]
    assert text == {"type": "text", "analyzer": "whitespace"}
    lines = fake.calls[-1][2]
    assert lines[0] == {
        "index": {
            "_index": "p_0_records",
            "_id": document_id(Address(1, _POST, 1)),
            "routing": "q224",
        }
    }
    assert lines[2] == {"index": {"_index": "p_0_actors", "_id": "1"}}


def test_body_of_a_search(
    engine: OpenSearchEngine, fake: FakeOpenSearch, conn: Conn
) -> None:
    engine.put(conn, [document(1, "word")])
    query = parse_query(
        "#tag lang:en -is:reply since:2026-01-01 until:2026-06-01",
        resolve_handle=lambda _: None,
    )
    engine.search_records(query, collections=[3], limit=7, after=[0, 5, "abc"])
    _, path, body = fake.calls[-1]
    assert path == "/p_0_records/_search?routing=q224,q225,q226"
    assert body == {
        "query": {
            "bool": {
                "filter": [
                    {"terms": {"collection": [3]}},
                    {
                        "range": {
                            "ts": {
                                "gte": 1_767_225_600_000_000,
                                "lt": 1_780_272_000_000_000,
                            }
                        }
                    },
                    {
                        "bool": {
                            "filter": [
                                {"term": {"tags": "tag"}},
                                {
                                    "bool": {
                                        "must_not": [{"term": {"features": "reply"}}]
                                    }
                                },
                                {"term": {"langs": "en"}},
                            ]
                        }
                    },
                ]
            }
        },
        "sort": [{"ts": "desc"}, {"id": "desc"}],
        "size": 7,
        "_source": False,
        "track_total_hits": False,
        "search_after": [5, "abc"],
    }


def test_a_record_that_moves_leaves_its_old_shard(
    engine: OpenSearchEngine, fake: FakeOpenSearch, conn: Conn
) -> None:
    engine.put(conn, [document(1, "word")])
    moved = document(1, "word", sort_at=datetime(1066, 1, 1, tzinfo=UTC))
    engine.put(conn, [moved])
    [(_, routing)] = fake.indexes["p_0_records"].documents
    assert routing == "q-3629"
    engine.delete(conn, [moved.address], [])
    assert fake.indexes["p_0_records"].documents == {}


def test_failed_writes_are_seen(
    engine: OpenSearchEngine, fake: FakeOpenSearch, conn: Conn
) -> None:
    fake.fail_bulk = 1
    with pytest.raises(OpenSearchError, match="429: disk is full") as caught:
        engine.put(conn, [document(1, "word"), document(2, "word")])
    assert caught.value.code == "cluster_block_exception"


def test_partial_answers_are_errors(
    engine: OpenSearchEngine, fake: FakeOpenSearch, conn: Conn
) -> None:
    engine.put(conn, [document(1, "word")])
    fake.failed_shards = 1
    query = parse_query("word", resolve_handle=lambda _: None)
    with pytest.raises(EngineUnavailableError, match="some shards only"):
        engine.search_records(query, collections=[_POST], limit=3)


@pytest.mark.parametrize(
    ("version", "distribution", "message"),
    [
        ("1.3.20", "opensearch", r"1\.3\.20 is too old; run 2\.0 or newer"),
        ("8.11.0", "elasticsearch", "not an OpenSearch"),
        ("", "", "not an OpenSearch"),
    ],
)
def test_other_servers_are_refused(
    engine: OpenSearchEngine,
    fake: FakeOpenSearch,
    conn: Conn,
    version: str,
    distribution: str,
    message: str,
) -> None:
    fake.version, fake.distribution = version, distribution
    with pytest.raises(OpenSearchError, match=message):
        engine.put(conn, [document(1, "word")])
    assert fake.indexes == {}


def test_a_wiped_cluster_is_filled_again(
    engine: OpenSearchEngine, fake: FakeOpenSearch, conn: Conn
) -> None:
    engine.put(conn, [document(1, "word")])
    engine.finish_rebuild()
    fake.wipe()
    engine.put(conn, [document(2, "word")])
    assert engine.state_for_writes().rebuild is not None
    assert fake.indexes["p_0_records"].fields["ts"] == "long"


def test_bulk_bodies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sizes.append(len(request.content))
        return httpx.Response(200, json={"errors": False, "items": []})

    monkeypatch.setattr(client_module, "MAX_BULK_BYTES", 500)
    client = OpenSearchClient("http://x.test", transport=httpx.MockTransport(answer))
    client.bulk([({"index": {"_id": str(n)}}, {"text": "x" * 90}) for n in range(40)])
    assert len(sizes) >= 10
    assert max(sizes) <= 500
    client.close()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (httpx.Response(502, content=b"bad gateway"), "502 without JSON"),
        (httpx.Response(500, json={"error": "odd"}), "500: odd"),
        (httpx.Response(500, json=["odd"]), "no reason given"),
    ],
)
def test_odd_replies_are_errors(reply: httpx.Response, message: str) -> None:
    client = OpenSearchClient(
        "http://x.test", "u:secret", transport=httpx.MockTransport(lambda _: reply)
    )
    with pytest.raises(OpenSearchError, match=message) as caught:
        client.count("x")
    assert "secret" not in repr(caught.value)
    client.close()


def test_an_absent_server_is_unavailable() -> None:
    client = OpenSearchClient("http://127.0.0.1:1", "u:secret")
    with pytest.raises(EngineUnavailableError, match="ConnectError"):
        client.count("x")
    client.close()
