"""The typed clients of both languages against a served provider."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from appview_world import Provider
from reference_network import FOLDER, NODE, is_installed
from small_world import did

from bigworld_client import Client, XrpcError, read_pages
from clients.generator.__main__ import write_clients
from clients.generator.interface import read_interface
from search.matches.match_log import append_matches, load_tail
from storage.records.addresses import find_addresses

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def client(provider: Provider) -> Iterator[Client]:
    with Client(provider.url, headers={"x-viewer": did("alice")}) as made:
        yield made


def test_generated_files_are_what_the_lexicons_say() -> None:
    for path, text in write_clients(read_interface()).items():
        assert path.read_text() == text, f"{path} is out of date: run `make docs`"


def test_every_method_is_in_both_clients() -> None:
    python, typescript = write_clients(read_interface()).values()
    lexicons = ROOT / "protocol/lexicon/ours/bigworld"
    documents = [json.loads(path.read_text()) for path in lexicons.rglob("*.json")]
    mains = [d for d in documents if "main" in d["defs"]]
    methods = [d["id"] for d in mains if d["defs"]["main"]["type"] != "record"]
    assert len(methods) > 10
    for nsid in methods:
        assert f'"{nsid}"' in python
        assert f"'{nsid}'" in typescript


def test_shapes_of_one_name_are_refused(tmp_path: Path) -> None:
    shape = {"type": "object", "properties": {"n": {"type": "integer"}}}
    for group in ("a", "b"):
        document = {"id": f"bigworld.{group}.defs", "defs": {"item": shape}}
        (tmp_path / f"{group}.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="Item"):
        read_interface(tmp_path)


def test_objects_without_a_name_are_refused(tmp_path: Path) -> None:
    inner = {"type": "array", "items": {"type": "object", "properties": {}}}
    shape = {"type": "object", "properties": {"n": inner}}
    document = {"id": "bigworld.a.defs", "defs": {"item": shape}}
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="name"):
        read_interface(tmp_path)


def test_python_client_reads_queries(client: Client, provider: Provider) -> None:
    found = client.search.search_records(
        q="quokka", collection=["app.bsky.feed.post"], facets=True
    )
    raw = provider.get(
        "bigworld.search.searchRecords",
        q="quokka",
        collection="app.bsky.feed.post",
        facets="true",
        viewer="alice",
    )
    assert found == raw
    assert provider.uris["hello"] in [record["uri"] for record in found["records"]]
    explained = client.search.explain(q="quokka", uri=provider.uris["hello"])
    assert explained["found"] is True
    counts = client.link.get_backlink_counts(subject=provider.uris["hello"])
    assert counts["counts"]


def test_python_client_reads_pages_to_the_end(
    client: Client, provider: Provider
) -> None:
    pages = list(
        read_pages(client.link.get_backlinks, subject=provider.uris["hello"], limit=1)
    )
    links = [link["uri"] for page in pages for link in page["links"]]
    whole = client.link.get_backlinks(subject=provider.uris["hello"])["links"]
    assert links == [link["uri"] for link in whole]
    assert len(links) > 2


def test_python_client_raises_named_errors(client: Client, provider: Provider) -> None:
    with pytest.raises(XrpcError) as refused:
        client.link.get_backlinks(subject="nothing at all")
    assert (refused.value.status, refused.value.error) == (400, "InvalidSubject")
    with Client(provider.url) as stranger, pytest.raises(XrpcError) as refused:
        stranger.search.list_saved_searches()
    assert refused.value.status == 401
    with pytest.raises(XrpcError) as refused:
        list(client.search.subscribe_matches(key=["x"]))
    assert refused.value.status == 400


def test_python_client_streams_matches(client: Client, provider: Provider) -> None:
    saved = client.search.put_saved_search(query="quokka", name="Q")["search"]
    try:
        before, last = log_match(provider, int(saved["id"]))
        stream = client.search.subscribe_matches(
            key=[saved["streamKey"]], cursor=before
        )
        message = next(stream)
        assert message["seq"] == last
        assert message["uri"] == provider.uris["hello"]
        stream.close()
    finally:
        assert client.search.delete_saved_search(id=saved["id"]) is None
    assert client.search.list_saved_searches()["searches"] == []


@pytest.mark.reference
@pytest.mark.skipif(
    not is_installed(),
    reason="Node is not installed: run tests/interop/reference/install",
)
def test_typescript_client_agrees_with_the_python_client(
    client: Client, provider: Provider
) -> None:
    saved = client.search.put_saved_search(query="quokka")["search"]
    try:
        before, last = log_match(provider, int(saved["id"]))
        asked = {
            "service": provider.url,
            "viewer": did("alice"),
            "uri": provider.uris["hello"],
            "key": saved["streamKey"],
            "cursor": before,
        }
        script = FOLDER / "typed_client.mjs"
        command = [NODE, script, ROOT / "clients/typescript", json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
    finally:
        client.search.delete_saved_search(id=saved["id"])
    assert seen["typeErrors"] == []
    assert seen["found"] == client.search.search_records(q="quokka", facets=True)
    links = client.link.get_backlinks(subject=provider.uris["hello"])["links"]
    assert seen["links"] == links
    assert seen["error"] == [400, "InvalidSubject"]
    assert seen["match"] == last
    assert [s["query"] for s in seen["saved"]["searches"]] == ["quokka"]


def log_match(provider: Provider, search: int) -> tuple[int, int]:
    """Log a match of a search; return the numbers before it and of it."""
    uri = provider.uris["hello"]
    with provider.app.pool.connection() as conn:
        before = load_tail(conn)
        address = find_addresses(conn, [uri])[uri]
        append_matches(conn, [(search, address)], datetime.now(UTC))
        return before, load_tail(conn)
