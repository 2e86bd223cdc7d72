"""Sessions and tokens over HTTP."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, sign_up, signing_key_of

from protocol.identity.service_auth import (
    check_claims,
    check_signature,
    parse_service_jwt,
)

CREATE_SESSION = "com.atproto.server.createSession"
REFRESH_SESSION = "com.atproto.server.refreshSession"
GET_SESSION = "com.atproto.server.getSession"
DELETE_SESSION = "com.atproto.server.deleteSession"
GET_SERVICE_AUTH = "com.atproto.server.getServiceAuth"
UPDATE_HANDLE = "com.atproto.identity.updateHandle"


@pytest.mark.parametrize(
    "identifier",
    ["alice.a.test", "Alice.A.test", "did", "email", " @alice.a.test\u202c "],
)
def test_session_opens_by_handle_did_and_email(
    server: Client, alice: Client, identifier: str
) -> None:
    identifier = {"did": alice.did, "email": "alice@EXAMPLE.com"}.get(
        identifier, identifier
    )
    answer = server.post(
        CREATE_SESSION, {"identifier": identifier, "password": PASSWORD}
    )
    session = answer.json
    assert answer.status == 200
    assert (session["did"], session["handle"]) == (alice.did, "alice.a.test")
    assert session["active"] is True
    assert session["didDoc"]["id"] == alice.did
    logged_in = Client(server.url, session["accessJwt"])
    shown = logged_in.get(GET_SESSION).json
    assert (shown["did"], shown["email"]) == (alice.did, "alice@example.com")


def test_settings_of_a_client_find_no_codes_and_app_passwords(
    server: Client, alice: Client
) -> None:
    for name, field in (
        ("getAccountInviteCodes", "codes"),
        ("listAppPasswords", "passwords"),
    ):
        nsid = f"com.atproto.server.{name}"
        assert alice.get(nsid).json == {field: []}
        assert server.get(nsid).error == "AuthMissing"


@pytest.mark.parametrize(
    "identifier", ["alice.a.test", "nobody.a.test", "did:plc:x", "a\0b", ""]
)
def test_wrong_password_does_not_reveal_accounts(
    server: Client, alice: Client, identifier: str
) -> None:
    answer = server.post(
        CREATE_SESSION, {"identifier": identifier, "password": "wrong password"}
    )
    assert (answer.status, answer.error) == (401, "AuthenticationRequired")
    assert answer.json["message"] == "Invalid identifier or password"


def test_password_guesses_are_limited(server: Client) -> None:
    guess = {"identifier": "victim.a.test", "password": "guess"}
    answers = []
    # On a slow machine some points are refilled meanwhile.
    while 429 not in answers and len(answers) < 90:
        answers.append(server.post(CREATE_SESSION, guess).status)
    assert answers[:30] == [401] * 30
    assert answers[-1] == 429
    assert server.post(CREATE_SESSION, guess | {"identifier": "x.a.test"}).status == 401


def test_token_serves_one_purpose(server: Client) -> None:
    dora = sign_up(server, "dora.a.test")
    assert dora.token is not None
    cases = [
        ("GET", GET_SESSION, dora.refresh_token, "InvalidToken"),
        ("POST", REFRESH_SESSION, dora.token, "InvalidToken"),
        ("GET", GET_SESSION, dora.token[:-2] + "AA", "InvalidToken"),
        ("GET", GET_SESSION, "nonsense", "InvalidToken"),
        ("GET", GET_SESSION, "a.b.c", "InvalidToken"),
    ]
    for method, nsid, token, error in cases:
        answer = server.send(method, f"/xrpc/{nsid}", token=token)
        assert (answer.status, answer.error) == (400, error)
    answer = server.get(GET_SESSION)
    assert (answer.status, answer.error) == (401, "AuthMissing")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Basic eDp5", "Unexpected authorization type"),
        ("basic eDp5", "Unexpected authorization type"),
        ("Digest x", "Unsupported authorization type: Digest"),
        ("Bearer", "Malformed authorization header"),
        ("Bearer a b", "Malformed authorization header"),
        ("Bearer nonsense", "Token could not be verified"),
    ],
)
@pytest.mark.parametrize(
    "nsid", [GET_SESSION, "app.bsky.feed.getTimeline", REFRESH_SESSION]
)
def test_other_authorization_schemes_are_refused(
    server: Client, nsid: str, header: str, message: str
) -> None:
    method = "POST" if nsid == REFRESH_SESSION else "GET"
    answer = server.send(method, f"/xrpc/{nsid}", headers={"Authorization": header})
    assert (answer.status, answer.error) == (400, "InvalidToken")
    assert answer.json["message"] == message


def test_concurrent_refreshes_keep_the_session(server: Client) -> None:
    erin = sign_up(server, "erin.a.test")
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(
                lambda token: server.post(REFRESH_SESSION, token=token),
                [erin.refresh_token] * 4,
            )
        )
    assert [answer.status for answer in answers] == [200] * 4
    assert {answer.json["did"] for answer in answers} == {erin.did}
    for answer in answers:
        token = answer.json["accessJwt"]
        assert server.send("GET", f"/xrpc/{GET_SESSION}", token=token).status == 200
        successor = answer.json["refreshJwt"]
        assert server.post(REFRESH_SESSION, token=successor).status == 200
    assert erin.get(GET_SESSION).status == 200


def test_deleted_session_ends_at_once(server: Client) -> None:
    fred = sign_up(server, "fred.a.test")
    assert server.post(DELETE_SESSION, token=fred.refresh_token).status == 200
    assert fred.get(GET_SESSION).error == "ExpiredToken"
    assert (
        server.post(REFRESH_SESSION, token=fred.refresh_token).error == "ExpiredToken"
    )


def test_service_tokens_are_signed_by_the_account(
    world: World, server: Client, alice: Client
) -> None:
    audience, method = "did:web:feeds.example", "app.bsky.feed.getFeedSkeleton"
    now = int(time.time())
    token = alice.get(GET_SERVICE_AUTH, aud=audience, lxm=method, exp=now + 1800).json[
        "token"
    ]
    jwt = parse_service_jwt(token)
    check_claims(jwt, now=now, audiences=[audience], lxm=method, max_lifetime=3600)
    check_signature(jwt, signing_key_of(world.plc_url, alice.did))
    assert jwt.iss == alice.did
    assert jwt.exp == now + 1800
    default = parse_service_jwt(alice.get(GET_SERVICE_AUTH, aud=audience).json["token"])
    assert default.lxm is None
    assert default.exp - now <= 61


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"exp": -10}, "BadExpiration"),
        ({"exp": 90}, "BadExpiration"),
        ({"exp": 3700, "lxm": "app.bsky.feed.getFeed"}, "BadExpiration"),
        ({"lxm": UPDATE_HANDLE}, "InvalidRequest"),
        ({"aud": "https://a.example"}, "InvalidRequest"),
        ({"aud": "did:web:a.example#b#c"}, "InvalidRequest"),
    ],
)
def test_service_tokens_have_bounds(
    alice: Client, params: dict[str, Any], error: str
) -> None:
    if "exp" in params:
        params = params | {"exp": int(time.time()) + params["exp"]}
    answer = alice.get(GET_SERVICE_AUTH, **({"aud": "did:web:a.example"} | params))
    assert (answer.status, answer.error) == (400, error)
