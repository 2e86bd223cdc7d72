"""Everything that the provider answers counts for its client."""

from __future__ import annotations

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from network.serve import serving_in_thread
from service.config import Config
from service.errors import ConfigError
from service.provider import create_app

PATHS = (
    "/",
    "/profile/a.test",
    "/status",
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


def status_of(url: str, client: str) -> int:
    request = Request(url, headers={"X-Forwarded-For": client})
    try:
        with urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def test_every_path_is_refused_to_a_client_whose_share_is_used_up(
    index_db: str, tmp_path: Path
) -> None:
    config = Config.read(home=tmp_path, client_requests_per_s=0.001, client_burst=3)
    with serving_in_thread(create_app(config, index_db)) as url:
        for _ in range(3):
            assert status_of(f"{url}/xrpc/_health", "9.9.9.9") == 200
        for path in PATHS:
            assert status_of(url + path, "9.9.9.9") == 429, path
        assert status_of(f"{url}/docs", "9.9.9.8") == 200


def test_bad_proxy_network_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"trusted_proxies: 'proxy\.local'"):
        Config.read(trusted_proxies=("proxy.local",))
