"""Images of the pages: verified, bounded, and none of hidden accounts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psycopg
import pytest
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from network.http.client import Fetcher
from network.http.policy import Policy
from network.server.listener import serving_in_thread
from protocol.data.cid import cid_for, cid_to_text, raw_cid_for
from service.operator_errors import ConfigError
from service.runtime.config import Config
from service.web.image_cache import ImageCache
from service.web.images import MAX_IMAGE_BYTES, Images, image_type
from storage.postgres.pool import open_pool

ALICE, GONE, WEB = "did:plc:" + "a" * 24, "did:plc:" + "b" * 24, "did:web:x.test%3A1"
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 100
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
TAKEN = PNG + b"taken down"
LARGE = PNG + bytes(MAX_IMAGE_BYTES)


def cid(blob: bytes) -> str:
    return cid_to_text(raw_cid_for(blob))


@dataclass
class _Host:
    """A host with blobs and the requests it got."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def get_blob(self, request: Request) -> Response:
        name = request.query_params["cid"]
        self.asked.append(f"{request.query_params['did']} {name}")
        blob = self.blobs.get(name)
        if blob is None:
            return Response("{}", 400)
        return Response(blob, media_type="text/html")


@dataclass
class _Site:
    url: str
    host: _Host
    cache: ImageCache

    def get(
        self, did: str, name: str, **headers: str
    ) -> tuple[int, bytes, httpx.Headers]:
        named = {header.replace("_", "-"): value for header, value in headers.items()}
        url = f"{self.url}/image/{did}/{name}"
        reply = httpx.get(url, headers=named, timeout=20)
        return reply.status_code, reply.content, reply.headers


@pytest.fixture(scope="module")
def site(databases: Any, tmp_path_factory: Any) -> Iterator[_Site]:
    url = databases.make("index")
    host = _Host({cid(blob): blob for blob in (PNG, SVG, LARGE)})
    host.blobs[cid(b"other")] = PNG
    host.blobs[cid(TAKEN)] = TAKEN
    path = "/xrpc/com.atproto.sync.getBlob"
    peer = Starlette(routes=[Route(path, host.get_blob)])
    cache = ImageCache(tmp_path_factory.mktemp("images"), 1_000_000)
    with serving_in_thread(peer) as origin, open_pool(url, max=2) as pool:
        with psycopg.connect(url) as conn:
            conn.execute("INSERT INTO host (hostname, url) VALUES ('x', %s)", (origin,))
            for did in (ALICE, GONE, WEB):
                conn.execute("INSERT INTO actor (did) VALUES (%s)", (did,))
            conn.execute("INSERT INTO repo (actor, host) SELECT id, 1 FROM actor")
            conn.execute("UPDATE actor SET takedown = 'x' WHERE did = %s", (GONE,))
        fetcher = Fetcher(Policy(allow_loopback=True))

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with fetcher:
                yield

        images = Images(
            pool,
            fetcher,
            cache,
            CapacityLimiter(2),
            lambda did, name: name == raw_cid_for(TAKEN),
        )
        with serving_in_thread(
            Starlette(routes=[images.route()], lifespan=lifespan)
        ) as served:
            yield _Site(served, host, cache)
    databases.drop(url)


def test_image_is_fetched_once_and_sandboxed(site: _Site) -> None:
    for _ in range(2):
        status, body, headers = site.get(ALICE, cid(PNG))
        assert (status, body) == (200, PNG)
        assert headers["content-type"] == "image/png"
        assert headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in headers["content-security-policy"]
    assert site.host.asked.count(f"{ALICE} {cid(PNG)}") == 1
    status, body, _ = site.get(ALICE, cid(PNG), If_None_Match=f'"{cid(PNG)}"')
    assert (status, body) == (304, b"")


def test_image_that_is_taken_down_is_not_served(site: _Site) -> None:
    assert site.get(ALICE, cid(TAKEN))[0] == 404
    assert f"{ALICE} {cid(TAKEN)}" not in site.host.asked


def test_did_with_a_percent_sign_is_escaped(site: _Site) -> None:
    quoted = WEB.replace("%", "%25")
    assert site.get(quoted, cid(PNG))[:2] == (200, PNG)
    assert f"{WEB} {cid(PNG)}" in site.host.asked


@pytest.mark.parametrize(
    "blob", [SVG, LARGE, b"other", b"nowhere"], ids=["svg", "large", "other", "absent"]
)
def test_unverified_image_is_not_served(site: _Site, blob: bytes) -> None:
    asked = len(site.host.asked)
    for _ in range(2):
        status, body, headers = site.get(ALICE, cid(blob))
        assert (status, body) == (404, b"no image")
        assert "sandbox" in headers["content-security-policy"]
    # A failure is remembered for a while.
    assert len(site.host.asked) == asked + 1


@pytest.mark.parametrize(
    ("did", "name"),
    [
        (GONE, cid(PNG)),
        ("did:plc:" + "c" * 24, cid(PNG)),
        ("alice.test", cid(PNG)),
        (ALICE, "..%2F..%2Fsecrets"),
        (ALICE, cid_to_text(cid_for(PNG))),
        (ALICE, cid(PNG) + "%00"),
    ],
)
def test_invalid_names_are_not_fetched(site: _Site, did: str, name: str) -> None:
    asked = len(site.host.asked)
    assert site.get(did, name)[0] == 404
    assert len(site.host.asked) == asked


class _Fetcher:
    """A fetcher that never returns images of the host `slow`."""

    async def get(self, url: str, **_: Any) -> Any:
        if url.startswith("http://slow/"):
            await asyncio.Event().wait()
        return SimpleNamespace(status=200, body=PNG)


def test_slow_host_does_not_block_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Images(
        cast(Any, None),
        cast(Any, _Fetcher()),
        ImageCache(tmp_path, 1_000_000),
        CapacityLimiter(2),
    )
    monkeypatch.setattr(
        Images,
        "_find_host",
        lambda _, did, cid: "http://quick" if did == ALICE else "http://slow",
    )

    async def ask(did: str, name: str) -> int:
        names = {"did": did, "cid": name}
        scope = {"type": "http", "headers": [], "path_params": names}
        answer = await images.serve(Request(scope))
        if isinstance(answer, StreamingResponse):
            assert b"".join([bytes(c) async for c in answer.body_iterator]) == PNG
        return answer.status_code

    async def main() -> None:
        names = [cid(b"%d" % number) for number in range(150)]
        stuck = [asyncio.create_task(ask(WEB, name)) for name in names]
        async with asyncio.timeout(20):
            refused, _ = await asyncio.wait(stuck, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result() for task in refused} == {503}
            assert await ask(ALICE, cid(PNG)) == 200
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)

    asyncio.run(main())


def test_image_type_reads_the_first_bytes() -> None:
    assert image_type(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert image_type(b"GIF89a..") == "image/gif"
    assert image_type(b"RIFF\0\0\0\0WEBPVP8 ") == "image/webp"
    assert image_type(b"\0\0\0\x20ftypavif") == "image/avif"
    assert [image_type(b) for b in (b"", SVG, b"RIFF\0\0\0\0WAVE")] == [None] * 3


def test_image_cache_evicts_the_least_recently_used(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "c", 30)
    for name in ("a", "b", "c"):
        cache.put(name, name.encode() * 10)
    opened = cache.open("a")
    assert opened is not None
    opened.close()
    cache.put("d", b"d" * 10)
    cache.put("too large", b"x" * 31)
    assert sorted(os.listdir(tmp_path / "c")) == ["a", "c", "d"]
    assert cache.open("b") is None
    assert cache.total == 30
    (tmp_path / "c" / "a").unlink()
    assert cache.open("a") is None
    assert ImageCache(tmp_path / "c", 10).total == 10


@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        ("https://cdn.test/{preset}/{did}/{cid}", None),
        ("https://cdn.test/{did}/{cid}", None),
        ("https://cdn.test/{preset}/{did}", "needs"),
        ("https://cdn.test/{did.x}/{cid}", "is none of"),
        ("https://cdn.test/{did!r}/{cid}", "is none of"),
        ("https://cdn.test/{file}/{did}/{cid}", "is none of"),
        ("https://{did}.cdn.test/{cid}", "not an https URL"),
        ("http://cdn.test/{did}/{cid}", "not an https URL"),
        ("/{did}/{cid}", "not an https URL"),
        ("https://cdn.test/{did/{cid}", "cdn_url_pattern"),
    ],
)
def test_cdn_url_pattern_is_checked(pattern: str, wrong: str | None) -> None:
    if wrong is None:
        assert Config.read(cdn_url_pattern=pattern).cdn_url_pattern == pattern
        return
    with pytest.raises(ConfigError, match=wrong):
        Config.read(cdn_url_pattern=pattern)


def test_cache_serves_and_evicts_files_of_another_process(tmp_path: Path) -> None:
    first, second = ImageCache(tmp_path / "c", 30), ImageCache(tmp_path / "c", 30)
    first.put("a", b"x" * 20)
    file = second.open("a")
    assert file is not None
    with file:
        assert file.read() == b"x" * 20
    assert second.total == 20
    second.put("b", b"y" * 20)
    assert first.open("a") is None
    assert first.total == 0
