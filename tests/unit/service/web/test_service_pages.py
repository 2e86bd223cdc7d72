from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from markupsafe import Markup
from starlette.applications import Starlette

from appview.app import AppView
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from indexer.repos.export import open_export
from network.server.listener import serving_in_thread
from protocol.data.cbor import encode
from protocol.data.cid import cid_for
from protocol.events.event import CommitEvent, RecordOp
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_ROOT, build_root
from protocol.repo.commit import sign_commit
from protocol.syntax import TidClock
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from service.web.richtext import render_text
from service.web.routes import page_routes
from storage.postgres.pool import open_pool
from storage.private.private_store import PrivateStore
from storage.private.sealing import Vault
from storage.records.interning import Interner

DID = "did:plc:" + "a" * 24
BARE = "did:plc:" + "b" * 24
NAMELESS = "did:plc:" + "c" * 24
FACET = "app.bsky.richtext.facet"


def _facet(start: int, end: int, **feature: str) -> dict[str, Any]:
    kind = feature.pop("kind")
    return {
        "index": {"byteStart": start, "byteEnd": end},
        "features": [{"$type": f"{FACET}#{kind}", **feature}],
    }


def _commit(
    texts: list[str], did: str = DID, profile: dict[str, str] | None = None
) -> CommitEvent:
    micros = iter(range(1_790_000_000_000_000, 2**53, 1_000_000))
    clock = TidClock(1, lambda: next(micros))
    blocks = {
        f"app.bsky.feed.post/{clock.next()}": encode(
            {
                "$type": "app.bsky.feed.post",
                "text": text,
                "createdAt": "2026-09-01T10:00:00Z",
            }
        )
        for text in texts
    }
    if profile is not None:
        blocks["app.bsky.actor.profile/self"] = encode(
            {"$type": "app.bsky.actor.profile"} | profile
        )
    blocks = dict(sorted(blocks.items()))
    data = build_root((p.encode(), cid_for(b)) for p, b in blocks.items())
    rev = clock.next()
    ops = [
        RecordOp("create", *path.split("/"), cid_for(block), block)  # type: ignore[arg-type]
        for path, block in blocks.items()
    ]
    commit = sign_commit(did, data, rev, PrivateKey.generate("k256"))
    return CommitEvent(did, rev, None, data, EMPTY_ROOT, commit, ops)  # type: ignore[arg-type]


async def _nothing(*_: Any, **__: Any) -> Any:
    return None


@pytest.fixture(scope="module")
def site(databases: Any) -> Iterator[str]:
    url = databases.make("index")
    with open_pool(url, max=4) as pool, open_pool(url, max=2) as names:
        interner, engine = Interner(names), PostgresEngine(pool)
        texts = ["first light", "<script>alert(1)</script> light", "dusk"]
        events = [
            _commit(texts, profile={"displayName": "<b>Ada</b>"}),
            _commit(["a newcomer"], BARE),
            _commit(["no name"], NAMELESS, {"displayName": "", "description": "x"}),
        ]
        with pool.connection() as conn:
            conn.execute(
                "INSERT INTO host (hostname, url) VALUES ('pds.test', 'http://x')"
            )
            conn.commit()
            apply_batch(conn, interner, events, {}, datetime.now(UTC))
            while drain_outbox(conn, engine, TEXTS, 100):
                pass
        app = AppView(
            pool=pool,
            private=PrivateStore(pool),
            vault=Vault(b"v" * 32),
            engine=engine,
            cursor_secret=b"s",
            service_did="did:web:example.com",
            resolve_handle=_nothing,
            fetch_skeleton=_nothing,
            request_crawl=_nothing,
            export_repo=open_export,
        )
        with serving_in_thread(Starlette(routes=[*page_routes(app)])) as served:
            yield served
    databases.drop(url)


def fetch(url: str) -> tuple[int, str, httpx.Headers]:
    reply = httpx.get(url, timeout=20)
    return reply.status_code, reply.text, reply.headers


def test_search_shows_results_and_escapes_them(site: str) -> None:
    status, body, headers = fetch(f"{site}/?q=light")
    assert status == 200
    assert "first <mark>light</mark>" in body
    assert "dusk" not in body
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <mark>light</mark>" in body
    assert "&lt;b&gt;Ada" in body
    assert "script-src 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "Latest posts"),
        ("/?q=nothingatall", "Nothing found"),
        ("/?q=since:never", "is not a date"),
        ("/?q=ada&kind=people", "Ada"),
        (f"/profile/{DID}", "first light"),
        ("/feeds", "Popular"),
        ("/feed/latest", "dusk"),
        ("/feed/following", "Sign in"),
        ("/status", "pds.test"),
        ("/status/counts.json", '"records":7'),
        ("/?q=newcomer", "a <mark>newcomer</mark>"),
        ("/?q=no+name", "no</mark> <mark>name</mark>"),
        (f"/profile/{BARE}", "a newcomer"),
        (f"/profile/{NAMELESS}", "no name"),
        ("/static/style.css", ":root"),
    ],
)
def test_page_shows_its_content(site: str, path: str, text: str) -> None:
    status, body, _ = fetch(site + path)
    assert status == 200, body
    assert text in body


@pytest.mark.parametrize(
    "path",
    [
        "/feed/none",
        "/profile/nobody.test",
        "/profile/a%20b",
        f"/post/{DID}/2222222222222",
        f"/post/{DID}/a%20b",
    ],
)
def test_unknown_path_is_a_404_page(site: str, path: str) -> None:
    status, body, _ = fetch(site + path)
    assert status == 404
    assert "Back to search" in body


@pytest.mark.parametrize("word", ["dusk", "newcomer", "name"])
def test_post_page_is_linked(site: str, word: str) -> None:
    _, body, _ = fetch(f"{site}/?q={word}")
    link = body.split('class="time" href="')[1].split('"')[0]
    status, page, _ = fetch(site + link)
    assert status == 200
    assert "No replies" in page


@pytest.mark.parametrize(
    ("facets", "html"),
    [
        (
            [_facet(0, 3, kind="link", uri="https://example.com/?a=1&b=2")],
            '<a href="https://example.com/?a=1&amp;b=2" rel="nofollow ugc">hé</a>',
        ),
        ([_facet(0, 3, kind="link", uri="javascript:alert(1)")], "hé &lt;you&gt;"),
        ([_facet(4, 9, kind="mention", did=DID)], f'hé <a href="/profile/{DID}"'),
        ([_facet(0, 3, kind="tag", tag="x y")], '<a href="/?q=%23x%20y"'),
        ([_facet(0, 99, kind="tag", tag="x")], "hé &lt;you&gt;"),
        ([_facet(3, 0, kind="tag", tag="x")], "hé &lt;you&gt;"),
        ([_facet(2, 4, kind="tag", tag="x")], "hé &lt;you&gt;"),
        ([_facet(0, 2, kind="tag", tag="x")], "hé &lt;you&gt;"),
        ([None, {"index": 1}, {"index": {}, "features": [1]}], "hé &lt;you&gt;"),
        ("x", "hé &lt;you&gt;"),
    ],
)
def test_render_text_links_facets(facets: Any, html: str) -> None:
    text = render_text({"text": "hé <you>", "facets": facets})
    assert isinstance(text, Markup)
    assert html in text


def test_render_text_of_a_record_without_text() -> None:
    assert render_text({"text": 5}) == ""
