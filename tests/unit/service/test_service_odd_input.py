"""Invalid bodies and parameters at the provider: refused, never a crash."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from network.server.listener import serving_in_thread
from service.provider import create_app
from service.runtime.config import Config

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
