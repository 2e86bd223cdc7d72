"""Identities, lexicons and blobs that the provider reads beyond its index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import did
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from appview import foreign_blobs
from appview.foreign_blobs import Blob, ForeignBlobs
from appview.network_reads import Identity, Offline, Online
from appview.takedowns import TakedownCache
from network.errors import (
    DidNotFoundError,
    DidTombstonedError,
    HandleNotFoundError,
    LexiconNotFoundError,
    TimedOutError,
    XrpcError,
)
from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.lexicon_source import PublishedLexicon
from network.server.listener import serving_in_thread
from protocol.data.cid import cid_for, cid_to_text, raw_cid_for
from storage.private.takedowns import blob_subject, take_down, undo_takedown

DESCRIBE = "com.atproto.repo.describeRepo"
RESOLVE_DID = "com.atproto.identity.resolveDid"
RESOLVE_IDENTITY = "com.atproto.identity.resolveIdentity"
REFRESH = "com.atproto.identity.refreshIdentity"
RESOLVE_LEXICON = "com.atproto.lexicon.resolveLexicon"
GET_BLOB = "com.atproto.sync.getBlob"
NSID = "org.example.garden.plant"
HTML = b"<script>alert(1)</script>"


@dataclass
class FakeNetwork:
    """A network of one account, one lexicon and the blobs of `ForeignBlobs`."""

    lookups: list[tuple[str, bool]] = field(default_factory=list)
    lexicons: int = 0
    fetch: Callable[..., Any] = Offline().fetch_blob

    async def find_document(self, did: str) -> Any:
        return (await self.find_identity(did)).document

    async def find_identity(
        self, identifier: str, *, refresh: bool = False
    ) -> Identity:
        self.lookups.append((identifier, refresh))
        if "gone" in identifier:
            raise DidTombstonedError("tombstoned")
        if "lost" in identifier:
            raise DidNotFoundError("not there")
        if "slow" in identifier:
            raise TimedOutError("too slow")
        if identifier == "nobody.test":
            raise HandleNotFoundError("nobody")
        name = did("alice") if identifier == "alice.test" else identifier
        return Identity(name, "alice.test", {"id": name, "extra": [1, None]})

    async def find_lexicon(self, nsid: str) -> PublishedLexicon:
        self.lexicons += 1
        if nsid != NSID:
            raise LexiconNotFoundError("nobody publishes it")
        record = {"$type": "com.atproto.lexicon.schema", "lexicon": 1, "id": nsid}
        uri = f"at://{did('alice')}/com.atproto.lexicon.schema/{nsid}"
        return PublishedLexicon(uri, cid_for(b"lexicon"), record)

    async def fetch_blob(self, *args: Any) -> Blob:
        found: Blob = await self.fetch(*args)
        return found


@pytest.fixture(scope="module")
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture(scope="module")
def provider(databases: Any, network: FakeNetwork) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, network=network, takedowns=TakedownCache(0)) as provider:
        yield provider
    databases.drop(url)


def refusal(action: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(RefusedError) as refused:
        action()
    return refused.value.status, refused.value.name


def test_describe_repo_names_identity_and_collections(provider: Provider) -> None:
    found = provider.get(DESCRIBE, repo="alice.test")
    assert found == {
        "did": did("alice"),
        "handle": "alice.test",
        "handleIsCorrect": True,
        "didDoc": {"id": did("alice"), "extra": [1, None]},
        "collections": sorted(
            {p.split("/")[0] for p in provider.world.records["alice"]}
        ),
    }
    for repo in ("dan.test", "nobody.test", did("nobody")):
        refused = refusal(lambda repo=repo: provider.get(DESCRIBE, repo=repo))
        assert refused == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("gone", 400, "DidDeactivated"),
        ("lost", 400, "DidNotFound"),
        ("slow", 504, "UpstreamTimeout"),
    ],
)
def test_failed_lookups_have_the_names_of_the_lexicon(
    provider: Provider, name: str, status: int, error: str
) -> None:
    asked = did(name)
    wanted = status, error
    assert refusal(lambda: provider.get(RESOLVE_DID, did=asked)) == wanted
    assert refusal(lambda: provider.get(RESOLVE_IDENTITY, identifier=asked)) == wanted


def test_identities_resolve_whole(provider: Provider) -> None:
    document = {"id": did("alice"), "extra": [1, None]}
    assert provider.get(RESOLVE_DID, did=did("alice")) == {"didDoc": document}
    found = provider.get(RESOLVE_IDENTITY, identifier="alice.test")
    assert found == {"did": did("alice"), "handle": "alice.test", "didDoc": document}
    refused = refusal(lambda: provider.get(RESOLVE_IDENTITY, identifier="nobody.test"))
    assert refused == (400, "HandleNotFound")


def test_refresh_identity_is_limited_by_account_and_queues_the_index(
    provider: Provider, network: FakeNetwork
) -> None:
    def refresh(identifier: str, viewer: str | None = "bob") -> Any:
        return json.loads(
            provider.post(REFRESH, {"identifier": identifier}, viewer=viewer)
        )

    assert refusal(lambda: refresh("alice.test", None)) == (401, "AuthMissing")
    assert refresh("alice.test")["did"] == did("alice")
    assert network.lookups[-1] == ("alice.test", True)
    assert refresh(did("alice"))["handle"] == "alice.test"
    # Another viewer has no share of its own.
    before = len(network.lookups)
    refused = refusal(lambda: refresh(did("alice"), "carol"))
    assert refused == (429, "RateLimitExceeded")
    assert len(network.lookups) == before
    refresh(did("unknown"))
    with psycopg.connect(provider.database) as conn:
        jobs = conn.execute("SELECT key FROM job WHERE kind = 'identity'").fetchall()
    assert jobs == [(did("alice"),)]


def test_lexicons_are_resolved_once(provider: Provider, network: FakeNetwork) -> None:
    for _ in range(2):
        found = provider.get(RESOLVE_LEXICON, nsid=NSID)
        refused = refusal(lambda: provider.get(RESOLVE_LEXICON, nsid="a.b.none"))
        assert refused == (400, "LexiconNotFound")
    assert found["uri"].endswith(NSID)
    assert found["cid"] == cid_to_text(cid_for(b"lexicon"))
    assert found["schema"]["id"] == NSID
    assert network.lexicons == 2


@dataclass
class FakeHost:
    """A host of one blob; `body` is what it really sends."""

    body: bytes = HTML
    status: int = 200
    media_type: str = "text/html; charset=utf-8"
    calls: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route(f"/xrpc/{GET_BLOB}", self._serve)])

    async def _serve(self, request: Request) -> Response:
        self.calls.append(dict(request.query_params))
        headers = {"content-type": self.media_type}
        return Response(self.body, self.status, headers)


@pytest.fixture
def host(provider: Provider, network: FakeNetwork) -> Iterator[FakeHost]:
    host = FakeHost()

    async def fetch(*args: Any) -> Blob:
        async with Fetcher(Policy(allow_loopback=True)) as fetcher:
            return await ForeignBlobs(fetcher).fetch(*args)

    with serving_in_thread(host.app()) as url:
        with psycopg.connect(provider.database) as conn:
            conn.execute("UPDATE host SET url = %s", (url,))
        network.fetch = fetch
        yield host


CID = cid_to_text(raw_cid_for(HTML))


def test_blob_is_served_verified_and_inert(provider: Provider, host: FakeHost) -> None:
    body, headers = provider.ask(GET_BLOB, did=did("alice"), cid=CID)
    assert body == HTML
    assert host.calls == [{"did": did("alice"), "cid": CID}]
    assert headers["content-type"] == "text/html"
    assert headers["content-length"] == str(len(HTML))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["content-disposition"] == f'attachment; filename="{CID}"'


def test_odd_media_type_of_a_blob_is_replaced(
    provider: Provider, host: FakeHost
) -> None:
    host.media_type = "text/<html>"
    _, headers = provider.ask(GET_BLOB, did=did("alice"), cid=CID)
    assert headers["content-type"] == "application/octet-stream"


def test_blobs_that_the_host_lacks_or_forges_are_refused(
    provider: Provider, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(name: str = "alice", cid: str = CID) -> tuple[int, str]:
        return refusal(lambda: provider.ask(GET_BLOB, did=did(name), cid=cid))

    host.body = b"something else"
    assert ask() == (502, "UpstreamFailure")
    host.status = 404
    assert ask() == (400, "BlobNotFound")
    host.status = 500
    assert ask() == (502, "UpstreamFailure")
    host.status, host.body = 200, HTML
    monkeypatch.setattr(foreign_blobs, "MAX_BLOB_BYTES", 10)
    assert ask() == (400, "BlobNotFound")
    calls = len(host.calls)
    assert ask(cid=cid_to_text(cid_for(b"a record"))) == (400, "BlobNotFound")
    assert ask("dan") == (400, "RepoDeactivated")
    assert ask("nobody") == (400, "RepoNotFound")
    assert len(host.calls) == calls


def test_taken_down_blob_is_not_even_fetched(
    provider: Provider, host: FakeHost
) -> None:
    alice = {"did": did("alice"), "cid": CID}
    subject = blob_subject(did("alice"), raw_cid_for(HTML))
    with psycopg.connect(provider.database) as conn:
        take_down(conn, subject, operator="me", reason="law")
    refused = refusal(lambda: provider.ask(GET_BLOB, **alice))
    assert refused == (400, "BlobNotFound")
    assert host.calls == []
    # The same blob of another account is another subject.
    assert provider.ask(GET_BLOB, did=did("bob"), cid=CID)[0] == HTML
    with psycopg.connect(provider.database) as conn:
        undo_takedown(conn, subject, operator="me", reason="")
    assert provider.ask(GET_BLOB, **alice)[0] == HTML


async def test_refused_blob_leaves_no_spool() -> None:
    host = FakeHost(body=b"forged")
    with serving_in_thread(host.app()) as url:
        async with Fetcher(Policy(allow_loopback=True)) as fetcher:
            blobs = ForeignBlobs(fetcher)
            for _ in range(6):
                with pytest.raises(XrpcError) as refused:
                    await blobs.fetch(
                        "client",
                        f"{url}/xrpc/{GET_BLOB}",
                        raw_cid_for(HTML),
                        lambda: False,
                    )
                # A client has four at once.
                assert refused.value.name == "UpstreamFailure"


class FakeResolver:
    """A resolver of alice, who claims a handle that does or does not point back."""

    def __init__(self, verified: str | None) -> None:
        self.verified = verified

    async def resolve_handle(self, handle: str, *, refresh: bool = False) -> str:
        return did("alice")

    async def resolve_did(self, name: str, *, refresh: bool = False) -> str:
        return name

    async def verify_handle(self, document: str, *, refresh: bool) -> str | None:
        return self.verified

    async def resolve_json(self, name: str) -> Any:
        return {"id": name}


@pytest.mark.parametrize(
    ("verified", "shown"), [("alice.test", "alice.test"), (None, "handle.invalid")]
)
def test_identity_has_a_verified_handle_or_none(
    verified: str | None, shown: str
) -> None:
    nothing: Any = type("Nothing", (), {"fetch": None, "resolve": None})
    resolver: Any = FakeResolver(verified)
    network = Online(resolver, nothing, nothing)
    found = asyncio.run(network.find_identity("alice.test"))
    assert found == Identity(did("alice"), shown, {"id": did("alice")})
