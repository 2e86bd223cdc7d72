"""The thread that sends pushes, in a provider with a webhook."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from network.server.listener import serving_in_thread
from service.provider import create_app
from service.runtime.config import Config
from service.runtime.secrets import private_vault
from storage.private.push_registrations import Device, save_device

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
OTHER = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """Return the URL of a webhook, and the bodies that it got."""
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            bodies.append(json.loads(self.rfile.read(size)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/push", bodies
        server.shutdown()
        thread.join()


def test_provider_with_a_webhook_sends_pushes(
    index_db: str, tmp_path: Path, webhook: tuple[str, list[Any]]
) -> None:
    url, bodies = webhook
    config = Config.read(home=tmp_path, push_webhook_url=url, dev_network=True)
    now = datetime.now(UTC)
    with psycopg.connect(index_db) as conn:
        account = private_vault(config).account(DID)
        save_device(conn, account, Device("t", "ios", "x"), now - timedelta(seconds=60))
        conn.execute(
            "INSERT INTO actor (id, did) VALUES (1001, %s), (1002, %s)", (DID, OTHER)
        )
        conn.execute("INSERT INTO repo (actor) VALUES (1001), (1002)")
        conn.execute(
            "INSERT INTO removed_verification (actor, rkey, recipient, removed_at)"
            " VALUES (1002, 5, 1001, %s)",
            (now,),
        )
    with serving_in_thread(create_app(config, index_db)) as served:
        document = httpx.get(f"{served}/.well-known/did.json").json()
        end = time.monotonic() + 20
        while not bodies and time.monotonic() < end:
            time.sleep(0.05)
    [body] = bodies
    assert (body["did"], body["devices"][0]["token"]) == (DID, "t")
    [notification] = body["notifications"]
    assert notification["reason"] == "unverified"
    assert notification["author"]["did"] == OTHER
    services = [service["id"] for service in document["service"]]
    assert "#bsky_notif" in services
