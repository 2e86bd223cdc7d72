"""Services besides the default indexer: reports, push, the services of feeds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pds_provider import Provider, start_provider
from pds_world import PASSWORD, Client, World, sign_up
from starlette.responses import JSONResponse

from protocol.identity.service_auth import ServiceJwt, parse_service_jwt

REPORT = "com.atproto.moderation.createReport"
GET_FEED = "app.bsky.feed.getFeed"
GET_RECORD = "com.atproto.repo.getRecord"
REGISTER = "app.bsky.notification.registerPush"
FEED = "at://did:plc:feeds/app.bsky.feed.generator/cats"


@pytest.fixture(scope="module")
def indexer(world: World) -> Provider:
    return start_provider(world, "indexer")


@pytest.fixture(scope="module")
def other(world: World) -> Provider:
    return start_provider(world, "other")


@pytest.fixture(scope="module")
def server(world: World, indexer: Provider, other: Provider) -> Client:
    return world.start_pds(
        default_indexer=f"{indexer.did}#bigworld",
        moderation_service=f"{other.did}#atproto_labeler",
    )


@pytest.fixture(autouse=True)
def _plain_answers(indexer: Provider, other: Provider) -> None:
    indexer.answers.clear()
    other.answers.clear()


def token_of(provider: Provider) -> ServiceJwt:
    request, _ = provider.last
    return parse_service_jwt(request.headers["authorization"].split()[1])


@pytest.mark.parametrize("nsid", [REPORT, "tools.ozone.moderation.emitEvent"])
def test_reports_go_to_the_moderation_service(
    alice: Client, indexer: Provider, other: Provider, nsid: str
) -> None:
    assert alice.post(nsid, {"reason": "x"}).json == {"from": "other"}
    token = token_of(other)
    assert (token.aud, token.lxm) == (other.did, nsid)
    # The client's own choice goes first, as with any method.
    header = {"atproto-proxy": f"{indexer.did}#atproto_labeler"}
    assert alice.post(nsid, {}, headers=header).json == {"from": "indexer"}


def test_reports_of_a_server_without_moderation_go_to_the_indexer(
    world: World, indexer: Provider
) -> None:
    server = world.start_pds("b", default_indexer=f"{indexer.did}#bigworld")
    bob = sign_up(server, "bob.b.test")
    assert bob.post(REPORT, {"reason": "x"}).json == {"from": "indexer"}


def test_account_that_was_taken_down_can_still_object(
    server: Client, other: Provider
) -> None:
    owner = sign_up(server, "objector.a.test")
    subject = {"$type": "com.atproto.admin.defs#repoRef", "did": owner.did}
    body = {"subject": subject, "takedown": {"applied": True}}
    assert server.operate("com.atproto.admin.updateSubjectStatus", body).status == 200
    login = {"identifier": owner.did, "password": PASSWORD, "allowTakendown": True}
    session = server.post("com.atproto.server.createSession", login).json
    owner.token = session["accessJwt"]
    assert owner.post(REPORT, {"reason": "x"}).json == {"from": "other"}
    assert token_of(other).iss == owner.did
    refused = owner.get("app.bsky.feed.getTimeline")
    assert (refused.status, refused.error) == (400, "InvalidToken")


def test_push_goes_to_the_service_of_the_body(
    alice: Client, indexer: Provider, other: Provider
) -> None:
    body = {"serviceDid": other.did, "token": "t", "platform": "ios", "appId": "a"}
    # The header names the AppView, which official clients send with every call.
    header = {"atproto-proxy": f"{indexer.did}#bigworld"}
    for nsid in (REGISTER, "app.bsky.notification.unregisterPush"):
        assert alice.post(nsid, body, headers=header).json == {"from": "other"}
        assert json.loads(other.last[1]) == body
        token = token_of(other)
        assert (token.aud, token.lxm) == (other.did, nsid)
    assert alice.post(REGISTER, body | {"serviceDid": indexer.did}).json == {
        "from": "indexer"
    }
    for bad in (None, {}, [], {"serviceDid": 5}, {"serviceDid": "x"}):
        answer = alice.post(REGISTER, bad)
        assert (answer.status, answer.error) == (400, "InvalidRequest")


def test_token_of_a_feed_is_for_the_service_of_the_feed(
    alice: Client, indexer: Provider
) -> None:
    record = {"uri": FEED, "value": {"did": "did:web:feeds.example.com"}}
    indexer.answers[GET_RECORD] = JSONResponse(record)
    assert alice.get(GET_FEED, feed=FEED, limit=3).json == {"from": "indexer"}
    token = token_of(indexer)
    assert token.aud == "did:web:feeds.example.com"
    assert token.lxm == "app.bsky.feed.getFeedSkeleton"
    lookup, _ = indexer.requests[-2]
    assert dict(lookup.query_params) == {
        "repo": "did:plc:feeds",
        "collection": "app.bsky.feed.generator",
        "rkey": "cats",
    }
    assert "authorization" not in lookup.headers


@pytest.mark.parametrize(
    ("record", "feed", "error"),
    [
        ({"value": {}}, FEED, "UnknownFeed"),
        ({"value": {"did": "nonsense"}}, FEED, "UnknownFeed"),
        ([], FEED, "UnknownFeed"),
        ({"value": {"did": "did:web:x.test"}}, "at://x", "InvalidRequest"),
        ({"value": {"did": "did:web:x.test"}}, "", "InvalidRequest"),
    ],
)
def test_feed_without_a_service_is_refused(
    alice: Client, indexer: Provider, record: Any, feed: str, error: str
) -> None:
    indexer.answers[GET_RECORD] = JSONResponse(record)
    answer = alice.get(GET_FEED, feed=feed)
    assert (answer.status, answer.error) == (400, error)


def test_hints_of_clients_are_forwarded(alice: Client, indexer: Provider) -> None:
    hints = {"x-bsky-topics": "art", "x-atproto-one": "1", "x-atproto-two": "2"}
    alice.send("GET", "/xrpc/app.bsky.feed.getTimeline", headers=hints)
    headers = indexer.last[0].headers
    assert {name: headers[name] for name in hints} == hints
    many = {f"x-atproto-{number}": "x" for number in range(30)}
    alice.send("GET", "/xrpc/app.bsky.feed.getTimeline", headers=many)
    sent = [n for n in indexer.last[0].headers if n.startswith("x-atproto-")]
    assert 0 < len(sent) <= 16


def test_retry_after_of_the_service_reaches_the_client(
    alice: Client, indexer: Provider
) -> None:
    body = {"error": "RateLimitExceeded", "message": "later"}
    indexer.answers["chat.bsky.convo.listConvos"] = JSONResponse(
        body, 429, {"retry-after": "7"}
    )
    answer = alice.get("chat.bsky.convo.listConvos")
    assert (answer.status, answer.error) == (429, "RateLimitExceeded")
    assert answer.headers["retry-after"] == "7"
