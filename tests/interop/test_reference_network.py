"""Bigworld beside the reference servers: they write, we crawl, they judge.

Needs `tests/interop/reference/install`; see docs/reference-servers.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from reference_network import (
    PASSWORD,
    get,
    get_bytes,
    is_installed,
    own_process,
    post,
    reference_servers,
    run_node,
    until,
)

from indexer.audit import rebuild_root
from protocol.car import read_car
from protocol.cid import cid_to_text
from protocol.commit import parse_commit
from protocol.did_document import parse_did_document
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


@dataclass
class Account:
    """One account of the reference PDS."""

    did: str
    handle: str
    token: str
    uris: list[str] = field(default_factory=list)


@dataclass
class Network:
    """Where everything listens, and who lives there."""

    plc: str
    pds: str
    provider: str
    provider_did: str
    database: str
    start: Callable[[str], Any]
    accounts: list[Account] = field(default_factory=list)

    def move_in(self, name: str) -> Account:
        made = post(
            self.pds,
            "com.atproto.server.createAccount",
            {
                "handle": f"{name}.test",
                "email": f"{name}@example.com",
                "password": PASSWORD,
            },
        )
        account = Account(made["did"], made["handle"], made["accessJwt"])
        self.accounts.append(account)
        return account

    def write(self, account: Account, collection: str, record: dict[str, Any]) -> str:
        body = {"repo": account.did, "collection": collection, "record": record}
        made = post(
            self.pds, "com.atproto.repo.createRecord", body, token=account.token
        )
        account.uris.append(made["uri"])
        uri: str = made["uri"]
        return uri

    def latest(self, account: Account) -> str:
        answer = get(self.pds, "com.atproto.sync.getLatestCommit", did=account.did)
        cid: str = answer["cid"]
        return cid

    def equal_roots(self) -> bool:
        """Every account: our head is theirs, and our rows give its root."""
        with psycopg.connect(self.database) as conn:
            for account in self.accounts:
                car = read_car(
                    get_bytes(self.pds, "com.atproto.sync.getRepo", did=account.did)
                )
                root = parse_commit(car.blocks[car.root]).data
                row = conn.execute(
                    "SELECT r.data, r.state, a.id FROM repo r "
                    "JOIN actor a ON a.id = r.actor WHERE a.did = %s",
                    (account.did,),
                ).fetchone()
                if row is None or bytes(row[0] or b"") != root:
                    return False
                assert row[1] == "synchronized"
                rebuilt = rebuild_root(conn, account.did)
                assert rebuilt == root, f"{account.did}: {cid_to_text(root)}"
        return True


@pytest.fixture(scope="module")
def network(
    databases: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("reference")
    base = random.Random().randrange(20_000, 30_000)
    database = databases.make("index")
    provider, plc, pds = base, base + 5, base + 6
    provider_url = f"http://localhost:{provider}"
    provider_did = f"did:web:localhost%3A{provider}"
    settings = {
        "BIGWORLD_HOME": str(folder / "home"),
        "BIGWORLD_PORT_BASE": str(provider),
        "BIGWORLD_DEV_NETWORK": "true",
        "BIGWORLD_PLC_URL": f"http://localhost:{plc}",
        "BIGWORLD_HOSTS": f"http://localhost:{pds}",
        "BIGWORLD_HOST_REQUESTS_PER_S": "200",
        "DATABASE_URL": database,
    }

    def start(verb: str) -> Any:
        return own_process(verb, settings, Path(folder / f"{verb}.log"))

    with reference_servers(plc, pds, provider_url, provider_did), start("serve"):
        made = Network(
            f"http://localhost:{plc}",
            f"http://localhost:{pds}",
            provider_url,
            provider_did,
            database,
            start,
        )
        until(lambda: get(provider_url, "_health"), "the provider")
        yield made
    databases.drop(database)


def _live_a_little(network: Network, rng: random.Random, rounds: int) -> None:
    """Creates, updates and deletes of several collections, known and unknown."""
    for number in range(rounds):
        account = rng.choice(network.accounts)
        now = f"2026-11-{1 + number % 28:02d}T10:00:00.000Z"
        kind = rng.randrange(8)
        if kind < 4:
            text = f"reference post {number} {rng.choice(['日本語', 'wörter', '🦘'])}"
            record: dict[str, Any] = {"text": text, "createdAt": now}
            network.write(account, "app.bsky.feed.post", record)
        elif kind == 4:
            other = rng.choice(network.accounts)
            record = {"subject": other.did, "createdAt": now}
            network.write(account, "app.bsky.graph.follow", record)
        elif kind == 5:
            record = {"name": f"plant {number}", "createdAt": now}
            network.write(account, "org.example.garden.plant", record)
        elif kind == 6:
            body = {
                "repo": account.did,
                "collection": "app.bsky.actor.profile",
                "rkey": "self",
                "record": {"displayName": f"Name {number}"},
            }
            post(network.pds, "com.atproto.repo.putRecord", body, token=account.token)
        elif account.uris:
            uri = account.uris.pop(rng.randrange(len(account.uris)))
            collection, rkey = uri.split("/")[3:]
            body = {"repo": account.did, "collection": collection, "rkey": rkey}
            post(
                network.pds, "com.atproto.repo.deleteRecord", body, token=account.token
            )


def test_crawl_search_and_export(network: Network) -> None:
    rng = random.Random(7)
    for name in ("alice", "bob", "carol", "dave", "erin"):
        network.move_in(name)
    _live_a_little(network, rng, 60)

    # Backfill: all that was written before we came; then live; then a gap.
    with network.start("crawl"):
        until(network.equal_roots, "equal roots after the backfill")
        _live_a_little(network, rng, 60)
        network.move_in("frank")
        until(network.equal_roots, "equal roots after live commits")
    _live_a_little(network, rng, 40)
    with network.start("crawl"):
        until(network.equal_roots, "equal roots after a restart with a gap")

        alice = network.accounts[0]
        record = {"text": "a wombat sings", "createdAt": "2026-11-22T10:00:00.000Z"}
        uri = network.write(alice, "app.bsky.feed.post", record)
        _search_through_their_pds(network, uri)
        _export_to_their_library(network)


def _search_through_their_pds(network: Network, uri: str) -> None:
    """By the server's default, and by a service named in atproto-proxy."""
    for proxy in ("", f"{network.provider_did}#bsky_appview"):

        def ask(proxy: str = proxy) -> Any:
            arguments = (network.pds, "bob.test", PASSWORD, proxy, "wombat")
            return run_node("search.mjs", *arguments)["posts"]

        posts = until(ask, "the wombat")
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
                "verify_car.mjs",
                str(file),
                account.did,
                document.signing_key,
            )
        finally:
            file.unlink()
        assert judged["commit"] == network.latest(account)
