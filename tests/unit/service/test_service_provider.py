"""The provider as a whole: rate limits, passwords, invalid input, its own feeds."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client import CollectorRegistry

from network.server.listener import serving_in_thread
from service.monitoring.metrics import metrics_route
from service.operator_errors import ConfigError
from service.provider import create_app
from service.runtime.config import Config

PATHS = (
    "/",
    "/profile/a.test",
    "/status",
    "/status.json",
    "/docs",
    "/openapi.json",
    "/static/style.css",
    "/.well-known/did.json",
    "/xrpc/_health",
    "/xrpc/app.bsky.actor.getProfile?actor=a.test",
    "/xrpc/no.such.method",
    "/nothing",
    "/subscribe",
)
CRAWL = "/xrpc/com.atproto.sync.requestCrawl"
BODIES = (
    b'{"hostname": "a\\u0000b.example.com"}',
    b'{"hostname": "\\ud800"}',
    b'{"hostname": "\xff"}',
    b'{"hostname": "' + b"a" * 6_000 + b'.example.com"}',
    b'{"hostname": ""}',
    b'{"hostname": "https://user@example.com/x"}',
    b'{"hostname": "xn--.example", "more": {"a": 1}}',
    b'{"hostname": "127.0.0.1"}',
    b'{"hostname": 1e999}',
    b'{"hostname": "a", "hostname": "b"}',
    b"[" * 5_000,
    b"\x00",
    b"",
)
PAGES = (
    "/?q=%00",
    "/?q=a%00b&kind=people",
    "/?q=%ff",
    "/?q=%ed%a0%80",
    "/?q=" + "a" * 20_000,
    "/?q=x&lang=%00&since=%00&until=x&author=%00",
    "/?q=x&cursor=%00",
    "/?q=from:%00",
    "/?q=a&q=b&sort=nothing",
    "/profile/%00",
    "/profile/alice.test.",
    "/profile/b%C3%BCcher.example",
    "/profile/did:web:localhost%253A1",
    "/profile/" + "a" * 20_000,
    "/profile/did:plc:" + "a" * 24 + "?cursor=%00",
    "/post/%00/%00",
    "/post/alice.test/..%2f",
    "/post/did:plc:" + "a" * 24 + "/zzzzzzzzzzzzz",
    "/post/did:plc:" + "a" * 24 + "/" + "k" * 600,
    "/feed/%00",
    "/feed/latest?cursor=%00",
    "/feed/latest?cursor=" + "a" * 20_000,
    "/feed/..%2f..",
    "/static/%00",
    "/static/..%2f..%2fconfig.py",
    "/host/%00",
    "/%00",
)


def status_of(url: str, client: str, authorization: str = "") -> int:
    headers = {"X-Forwarded-For": client}
    if authorization:
        headers["Authorization"] = authorization
    return httpx.get(url, headers=headers, timeout=20).status_code


def test_every_path_is_rate_limited(index_db: str, tmp_path: Path) -> None:
    config = Config.read(home=tmp_path, client_requests_per_s=0.001, client_burst=3)
    with serving_in_thread(create_app(config, index_db)) as url:
        for _ in range(3):
            assert status_of(f"{url}/xrpc/_health", "9.9.9.9") == 200
        for path in PATHS:
            assert status_of(url + path, "9.9.9.9") == 429, path
        assert status_of(f"{url}/docs", "9.9.9.8") == 200


def test_operator_routes_require_the_password(index_db: str, tmp_path: Path) -> None:
    config = Config.read(home=tmp_path, admin_password="s:ecret")
    app = create_app(
        config, index_db, operator_routes=[metrics_route(CollectorRegistry())]
    )
    with serving_in_thread(app) as url:
        for path in ("/metrics", "/status.json"):
            for wrong in ("", "Basic !", header("admin", "secret"), "Bearer x"):
                assert status_of(url + path, "9.9.9.9", wrong) == 401
            assert status_of(url + path, "9.9.9.9", header("root", "s:ecret")) == 401
            assert status_of(url + path, "9.9.9.9", header("admin", "s:ecret")) == 200
            assert status_of(url + path, "9.9.9.9", "Bearer s:ecret") == 200
        assert status_of(f"{url}/status/counts.json", "9.9.9.9") == 200


def header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_bad_proxy_network_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"trusted_proxies: 'proxy\.local'"):
        Config.read(trusted_proxies=("proxy.local",))


@pytest.fixture(scope="module")
def url(databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = databases.make("index")
    home: Path = tmp_path_factory.mktemp("home")
    app = create_app(Config.read(home=home), database)
    with serving_in_thread(app) as served:
        yield served
    databases.drop(database)


def call(url: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        headers = {"Content-Type": "application/json"} if method == "POST" else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_invalid_body_is_a_400(url: str) -> None:
    for body in BODIES:
        status, answer = call(url, "POST", CRAWL, body)
        assert (status, b"InvalidRequest" in answer) == (400, True), (body[:60], answer)


def test_invalid_page_parameter_is_a_400(url: str) -> None:
    answers = {path[:60]: call(url, "GET", path)[0] for path in PAGES}
    assert {p: s for p, s in answers.items() if s not in (200, 400, 404)} == {}
    assert [answers[path[:60]] for path in PAGES[:2]] == [400, 400]


def test_own_feeds_are_found_in_an_empty_index(tmp_path: Path, index_db: str) -> None:
    config = Config.read(home=tmp_path, public_url="https://search.example.org")
    with serving_in_thread(create_app(config, index_db, check_output=True)) as url:

        def get(path: str) -> Any:
            return httpx.get(url + path, timeout=30).json()

        feeds = get("/xrpc/app.bsky.feed.describeFeedGenerator")["feeds"]
        uris = [feed["uri"] for feed in feeds]
        views = get(
            "/xrpc/app.bsky.feed.getFeedGenerators?feeds=" + "&feeds=".join(uris)
        )["feeds"]
        assert [view["uri"] for view in views] == uris
        creator = views[0]["creator"]
        assert (creator["did"], creator["handle"]) == (
            "did:web:search.example.org",
            "search.example.org",
        )
        record = get(
            "/xrpc/com.atproto.repo.getRecord?repo=search.example.org"
            "&collection=app.bsky.feed.generator&rkey=latest"
        )
        assert record["uri"] in uris
        assert record["cid"] in {view["cid"] for view in views}
        assert get(f"/xrpc/app.bsky.feed.getFeed?feed={record['uri']}") == {"feed": []}
        assert get("/.well-known/did.json")["alsoKnownAs"] == [
            "at://search.example.org"
        ]
        assert httpx.get(f"{url}/.well-known/atproto-did").text == creator["did"]
