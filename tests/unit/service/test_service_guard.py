"""Rate limits and the operator's password, on every path of the provider."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from network.server.listener import serving_in_thread
from service.monitoring.metrics import metrics_route
from service.operator_errors import ConfigError
from service.provider import create_app
from service.runtime.config import Config

REGISTRY = CollectorRegistry()
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
    app = create_app(config, index_db, operator_routes=[metrics_route(REGISTRY)])
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
