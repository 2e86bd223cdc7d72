"""Our PDS with our provider behind it, before and after the crawl of a repo."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from crawl_world import CrawlWorld, wait_until
from pds_world import Client, World, free_port, post, sign_up

from crawler.hosts.discovery import request_crawl
from crawler.identities.network_clients import clients_opener
from network.http.policy import HostLimits
from network.server.listener import serving_in_thread
from protocol.data.cid import cid_to_text
from protocol.repo.car import read_car
from service.provider import create_app
from service.runtime.config import Config

LAG = "atproto-upstream-lag"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
PLANT = "org.example.garden.plant"


@dataclass
class Network:
    """A PDS, a provider, and the index between them."""

    server: Client
    provider: Client
    index: CrawlWorld

    def crawl(self, did: str) -> None:
        """Crawl until the provider has the account's newest commit."""
        latest = "com.atproto.sync.getLatestCommit"

        def is_there() -> bool:
            theirs = self.server.get(latest, did=did).json
            return self.provider.get(latest, did=did).json == theirs

        with self.index.crawling():
            wait_until(is_there)


@pytest.fixture
def own(index_db: str, network: World, tmp_path: Path) -> Iterator[Network]:
    port = free_port()
    did = f"did:web:localhost%3A{port}"
    server = network.start_pds("a", default_indexer=f"{did}#bsky_appview")
    config = Config.read(
        home=tmp_path,
        dev_network=True,
        plc_url=network.plc_url,
        hosts=server.url,
        public_url=f"http://localhost:{port}",
    )
    index = CrawlWorld(index_db)
    settings = index.settings()
    index.open_clients = clients_opener(
        index.pool,
        settings,
        plc_url=network.plc_url,
        dev_pds=[server.url],
        host_limits=HostLimits(rate=1_000, burst=1_000, concurrency=16),
    )
    with index.pool.connection() as conn:
        request_crawl(conn, server.url, settings)
    app = create_app(config, index_db, check_output=True)
    with serving_in_thread(app, port=port):
        yield Network(server, Client(config.provider_url), index)
    index.close()


def texts(answer: Any) -> list[str]:
    return [item["post"]["record"]["text"] for item in answer.json["feed"]]


@pytest.mark.slow
def test_user_sees_own_writes_before_and_after_they_are_indexed(own: Network) -> None:
    alice = sign_up(own.server, "alice.a.test")
    seen = alice.create(post("seen")).json
    own.crawl(alice.did)
    ref = {"uri": seen["uri"], "cid": seen["cid"]}
    reply = post("reply", reply={"root": ref, "parent": ref})
    new = alice.create(reply).json
    quote = {"$type": "app.bsky.embed.record", "record": ref}
    alice.create(post("quote", embed=quote))
    profile = {"$type": "app.bsky.actor.profile", "displayName": "Alice the New"}
    alice.create(profile, rkey="self")

    feed, thread = "app.bsky.feed.getAuthorFeed", "app.bsky.feed.getPostThread"
    behind = own.provider.get(feed, actor=alice.did)
    assert texts(behind) == ["seen"]

    def check(is_behind: bool) -> None:
        answer = alice.get(feed, actor=alice.did)
        assert texts(answer)[:1] == ["quote"]
        assert {*texts(answer)} == {"quote", "reply", "seen"}
        assert (LAG in answer.headers) == is_behind
        first = answer.json["feed"][0]["post"]
        assert first["author"]["displayName"] == "Alice the New"
        assert first["embed"]["record"]["value"]["text"] == "seen"
        shown = alice.get("app.bsky.actor.getProfile", actor=alice.did).json
        assert shown["displayName"] == "Alice the New"
        above = alice.get(thread, uri=seen["uri"]).json["thread"]
        assert [r["post"]["uri"] for r in above["replies"]] == [new["uri"]]
        below = alice.get(thread, uri=new["uri"])
        assert below.json["thread"]["post"]["uri"] == new["uri"]
        assert below.json["thread"]["parent"]["post"]["uri"] == seen["uri"]

    check(is_behind=True)
    own.crawl(alice.did)
    check(is_behind=False)


def both(own: Network) -> Callable[..., Any]:
    """Return a function that asks PDS and provider; their answers are equal."""

    def ask(nsid: str, **params: Any) -> Any:
        theirs = own.server.get(nsid, **params)
        ours = own.provider.get(nsid, **params)
        assert (ours.status, theirs.status) == (200, 200), (ours.body, theirs.body)
        answers = [dict(json.loads(answer.body)) for answer in (theirs, ours)]
        for answer in answers:
            answer.pop("cursor", None)
        assert answers[1] == answers[0]
        return answers[1]

    return ask


@pytest.mark.slow
def test_mirror_answers_as_the_pds_of_an_account(own: Network) -> None:
    alice = sign_up(own.server, "alice.a.test")
    for rkey in ("a", "b", "self", "3kaaaaaaaaa22"):
        record = {"$type": PLANT, "name": rkey}
        assert alice.create(record, rkey=rkey).status == 200
    upload = "/xrpc/com.atproto.repo.uploadBlob"
    head = {"content-type": "image/png"}
    image = alice.send("POST", upload, body=PNG, headers=head).json["blob"]
    embed = {"$type": "app.bsky.embed.images", "images": [{"alt": "", "image": image}]}
    alice.create(post("picture", embed=embed))
    own.crawl(alice.did)
    ask = both(own)
    for reverse in ("true", "false"):
        records = {"repo": alice.did, "collection": PLANT, "reverse": reverse}
        assert len(ask("com.atproto.repo.listRecords", **records)["records"]) == 4
        ask("com.atproto.repo.listRecords", **records, limit=2)
    assert ask("com.atproto.sync.listBlobs", did=alice.did)["cids"] == [
        image["ref"]["$link"]
    ]
    ask("com.atproto.sync.getRepoStatus", did=alice.did)
    ask("com.atproto.sync.listRepos")
    described = own.provider.get("com.atproto.repo.describeRepo", repo=alice.did)
    theirs = own.server.get("com.atproto.repo.describeRepo", repo=alice.did).json
    assert described.json["collections"] == theirs["collections"]
    assert described.json["didDoc"]["service"] == theirs["didDoc"]["service"]
    blob = {"did": alice.did, "cid": image["ref"]["$link"]}
    assert own.provider.get("com.atproto.sync.getBlob", **blob).body == PNG
    whole = read_car(own.server.get("com.atproto.sync.getRepo", did=alice.did).body)
    asked = {"did": alice.did, "cids": [cid_to_text(cid) for cid in whole.blocks]}
    blocks = read_car(own.provider.get("com.atproto.sync.getBlocks", **asked).body)
    assert blocks.blocks == whole.blocks
    holders = own.provider.get(
        "com.atproto.sync.listReposByCollection", collection=PLANT
    )
    assert holders.json == {"repos": [{"did": alice.did}]}
    identity = own.provider.get(
        "com.atproto.identity.resolveIdentity", identifier="alice.a.test"
    ).json
    assert (identity["did"], identity["handle"]) == (alice.did, "alice.a.test")
    found = own.provider.get("com.atproto.identity.resolveDid", did=alice.did).json
    assert found["didDoc"] == identity["didDoc"] == described.json["didDoc"]
    hosts = own.provider.get("com.atproto.sync.listHosts").json["hosts"]
    assert [host["accountCount"] for host in hosts] == [1]
    refreshed = alice.post(
        "com.atproto.identity.refreshIdentity",
        {"identifier": alice.did},
        headers={"atproto-proxy": f"{_did(own)}#bsky_appview"},
    )
    assert refreshed.json == identity


def _did(own: Network) -> str:
    found: str = own.provider.send("GET", "/.well-known/did.json").json["id"]
    return found
