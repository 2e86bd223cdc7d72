"""Bigworld and the reference servers on one network: crawl, search, export.

Needs `tests/interop/reference/install`; see docs/explanation/reference-servers.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from reference_network import PASSWORD, get_bytes, is_installed, run_node, until
from reference_society import POST, Network

from protocol.identity.did_document import parse_did_document
from protocol.syntax import Did

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]


PATIENCE = 240.0
"""Maximum seconds of a step, on a busy machine."""


def test_crawl_search_and_export(network: Network) -> None:
    for name in ("alice", "bob", "carol", "dave", "erin"):
        network.move_in(name)
    network.act("create create update delete", 40, seed=7)

    # Backfill: all that was written before we came; then live.
    with network.start("crawl"):
        until(network.equal, "equal roots after the backfill", PATIENCE)
        network.move_in("frank")
        network.act("create create update delete", 30, seed=8)
        until(network.equal, "equal roots after live commits", PATIENCE)

        alice = network.accounts[0]
        record = {"text": "a wombat sings", "createdAt": "2026-11-22T10:00:00.000Z"}
        uri = network.write(alice, POST, record)
        _search_through_their_pds(network, uri)
        _export_to_their_library(network)


def _search_through_their_pds(network: Network, uri: str) -> None:
    """Search by the default of their server, and by an atproto-proxy header."""
    for proxy in ("", f"{network.provider_did}#bsky_appview"):

        def ask(proxy: str = proxy) -> Any:
            arguments = (network.pds, "bob.test", PASSWORD, proxy, "wombat")
            return run_node("search.mjs", *arguments)["posts"]

        posts = until(ask, "the wombat", PATIENCE)
        assert [found["uri"] for found in posts] == [uri]
        assert posts[0]["author"]["handle"] == "alice.test"


def _export_to_their_library(network: Network) -> None:
    for account in network.accounts:
        car = get_bytes(network.provider, "com.atproto.sync.getRepo", did=account.did)
        file = Path(f"/tmp/bigworld-export-{account.did[-8:]}.car")
        file.write_bytes(car)
        try:
            with psycopg.connect(network.database) as conn:
                row = conn.execute(
                    "SELECT document FROM identity WHERE did = %s", (account.did,)
                ).fetchone()
            assert row is not None
            document = parse_did_document(row[0], Did(account.did), dev=True)
            assert document.signing_key is not None
            judged = run_node(
                "verify_car.mjs", str(file), account.did, document.signing_key
            )
        finally:
            file.unlink()
        assert judged["commit"] == network.head(account)
