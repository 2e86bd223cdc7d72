"""The pages of proofs and explanations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
from appview_world import serve_world
from small_world import World, did
from starlette.applications import Starlette

from network.server.listener import serving_in_thread
from service.web.routes import page_routes
from storage.repos.identities import save_document

NO_UNAUTHENTICATED = {
    "$type": "com.atproto.label.defs#selfLabels",
    "values": [{"val": "!no-unauthenticated"}],
}


@dataclass
class Site:
    url: str
    uris: dict[str, str]
    database: str
    world: World

    def read(self, path: str, status: int = 200) -> str:
        reply = httpx.get(self.url + path, timeout=20)
        assert reply.status_code == status, reply.text
        assert "unsafe" not in reply.headers["content-security-policy"]
        return reply.text

    def proof(self, name: str, status: int = 200) -> str:
        return self.read("/proof/" + self.uris[name].removeprefix("at://"), status)

    def explain(self, query: str, name: str, **more: str) -> str:
        params = {"q": query, "uri": self.uris[name]} | more
        return self.read("/explain?" + urlencode(params))


def _fill(world: World) -> dict[str, str]:
    world.write(
        "opted",
        "app.bsky.actor.profile",
        {"displayName": "Opted", "labels": NO_UNAUTHENTICATED},
        "self",
    )
    odd = {"text": "a </pre><script>", "createdAt": "2148-01-01T00:00:00Z"}
    return {
        "hello": world.post("alice", "hello quokka", langs=["en"]),
        "odd": world.write("alice", "app.bsky.feed.post", odd, "a~b:c_d.1"),
        "other": world.write("alice", "com.example.dish", {"name": "<soup>"}, "soup"),
        "secret": world.post("opted", "secret quokka"),
        "gone": f"at://{did('alice')}/app.bsky.feed.post/3zzzzzzzzzzzz",
        "nobody": f"at://{did('nobody')}/app.bsky.feed.post/3zzzzzzzzzzzz",
    }


def _document(world: World, name: str, key: str) -> dict[str, Any]:
    method = {"id": f"{did(name)}#atproto", "type": "Multikey", "controller": did(name)}
    key = key.removeprefix("did:key:")
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did(name),
        "verificationMethod": [method | {"publicKeyMultibase": key}],
    }


def _save_key(site: Site, name: str, signer: str) -> None:
    key = site.world.keys[signer].public.did_key
    document = _document(site.world, name, key)
    with psycopg.connect(site.database) as conn:
        at = datetime.now(UTC).timestamp()
        save_document(conn, did(name), document, None, at)


@pytest.fixture(scope="module")
def site(databases: Any) -> Iterator[Site]:
    url = databases.make("index")
    with serve_world(url, _fill, {}) as provider:
        app = Starlette(routes=[*page_routes(provider.app)])
        with serving_in_thread(app) as served:
            yield Site(served, provider.uris, url, provider.world)
    databases.drop(url)


def test_proof_page_verifies_a_record(site: Site) -> None:
    assert "signing key of the account is not known" in site.proof("hello")
    _save_key(site, "alice", "opted")
    assert "InvalidSignatureError" in site.proof("hello")
    _save_key(site, "alice", "alice")
    for name in ("hello", "odd", "other"):
        page = site.proof(name)
        assert "✓ Verified" in page
        assert f"./bigworld verify {site.uris[name]}" in page
        assert site.world.cid("alice", site.uris[name].split("/", 3)[3]) in page
        assert "com.atproto.sync.getRecord?did=did%3Aplc%3Aalice" in page
        assert "<script>" not in page
    assert "Verified absent" in site.proof("gone")
    assert '"hello quokka"' in site.proof("hello").replace("&#34;", '"')


def test_proof_page_hides_what_other_pages_hide(site: Site) -> None:
    assert "secret" not in site.proof("secret", 404)
    site.proof("nobody", 404)
    for path in ("x/y/z", f"{did('alice')}/a.b.c/%00", f"{did('alice')}/a.b.c/%20"):
        assert "Not found" in site.read(f"/proof/{path}", 404)


def test_explain_page_names_parts_and_place(site: Site) -> None:
    page = site.explain("quokka lang:en", "hello", sort="top")
    assert "at place 1" in page
    assert "<code>lang:en</code>" in page
    page = site.explain("wombat <b>", "hello")
    assert "Not found" in page
    assert "<b>" not in page.split("<main")[1]
    assert "does not hold this record" in site.explain("quokka", "gone")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"q": "x"},
        {"q": "x", "uri": "at://x"},
        {"q": "since:never", "uri": f"at://{did('alice')}/a.b.c/x"},
        {"q": "x" * 1_100, "uri": f"at://{did('alice')}/a.b.c/x"},
    ],
)
def test_explain_page_of_odd_parameters_is_404(
    site: Site, params: dict[str, str]
) -> None:
    site.read("/explain?" + urlencode(params), 404)
