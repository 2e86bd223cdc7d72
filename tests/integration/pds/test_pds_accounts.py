"""Accounts, sessions and identity over HTTP, with a real directory."""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, sign_up

from network.http.policy import HostLimits
from pds.tables import metadata
from protocol.identity.did_document import parse_did_document
from protocol.identity.keys import PrivateKey, parse_did_key
from protocol.identity.service_auth import (
    check_claims,
    check_signature,
    parse_service_jwt,
)
from protocol.syntax import Did

CREATE_ACCOUNT = "com.atproto.server.createAccount"
CREATE_SESSION = "com.atproto.server.createSession"
REFRESH_SESSION = "com.atproto.server.refreshSession"
GET_SESSION = "com.atproto.server.getSession"
DELETE_SESSION = "com.atproto.server.deleteSession"
GET_SERVICE_AUTH = "com.atproto.server.getServiceAuth"
UPDATE_HANDLE = "com.atproto.identity.updateHandle"
RESOLVE_HANDLE = "com.atproto.identity.resolveHandle"


@pytest.fixture(scope="module")
def alice(server: Client) -> Client:
    return sign_up(server, "alice.a.test", email="Alice@Example.com")


def read_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_describe_server_names_did_and_domains(server: Client) -> None:
    described = server.get("com.atproto.server.describeServer").json
    assert described["did"].startswith("did:web:localhost%3A")
    assert described["availableUserDomains"] == [".a.test"]
    assert described["inviteCodeRequired"] is False
    assert "version" in server.get("_health").json
    document = read_json(server.url + "/.well-known/did.json")
    assert document["id"] == described["did"]


def test_new_account_is_in_the_directory(
    world: World, server: Client, alice: Client
) -> None:
    raw = read_json(f"{world.plc_url}/{alice.did}")
    document = parse_did_document(raw, Did(alice.did), dev=True)
    assert document.handles == ("alice.a.test",)
    assert document.pds == server.url
    described = server.get("com.atproto.repo.describeRepo", repo=alice.did).json
    local = parse_did_document(described["didDoc"], Did(alice.did), dev=True)
    assert local == document
    assert described["handle"] == "alice.a.test"
    assert described["handleIsCorrect"] is True
    assert described["collections"] == []


def test_recovery_key_is_the_first_rotation_key(world: World, server: Client) -> None:
    key = PrivateKey.generate("p256").public.did_key
    owner = sign_up(server, "recover.a.test", recoveryKey=key)
    data = read_json(f"{world.plc_url}/{owner.did}/data")
    assert data["rotationKeys"][0] == key
    assert len(data["rotationKeys"]) == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"handle": "alice.a.test"}, "HandleNotAvailable"),
        ({"handle": "ALICE.a.test"}, "HandleNotAvailable"),
        ({"handle": "alice.a.test", "password": "short"}, "HandleNotAvailable"),
        ({"handle": "bob.b.test"}, "UnsupportedDomain"),
        ({"handle": "b.a.test"}, "InvalidHandle"),
        ({"handle": "x.bob.a.test"}, "InvalidHandle"),
        ({"handle": "admin.a.test"}, "HandleNotAvailable"),
        ({"handle": "not a handle"}, "InvalidRequest"),
        ({"password": "short"}, "InvalidPassword"),
        ({"password": "x" * 257}, "InvalidPassword"),
        ({"password": None}, "InvalidRequest"),
        ({"email": "alice@example.com"}, "InvalidRequest"),
        ({"email": "no mail"}, "InvalidRequest"),
        ({"did": "did:plc:" + "a" * 24}, "InvalidRequest"),
        ({"recoveryKey": "did:key:z6Mk"}, "InvalidRequest"),
    ],
)
def test_invalid_sign_up_is_refused(
    server: Client, alice: Client, changes: dict[str, Any], error: str
) -> None:
    fields = {"handle": "bobby.a.test", "password": PASSWORD} | changes
    answer = server.post(CREATE_ACCOUNT, fields)
    assert (answer.status, answer.error) == (400, error)
    resolved = server.get(RESOLVE_HANDLE, handle="bobby.a.test")
    assert resolved.error == "HandleNotFound"


def test_sign_up_requires_the_configured_invite(world: World) -> None:
    with world.serve_pds("invite", invite_code="open-sesame") as server:
        fields = {"handle": "carol.invite.test", "password": PASSWORD}
        for code in ({}, {"inviteCode": "open"}, {"inviteCode": "\u00f6"}):
            answer = server.post(CREATE_ACCOUNT, fields | code)
            assert (answer.status, answer.error) == (400, "InvalidInviteCode")
        sign_up(server, "carol.invite.test", inviteCode="open-sesame")


def test_sign_ups_have_a_rate_limit(world: World) -> None:
    with world.serve_pds("few", sign_ups_per_5_minutes=1) as server:
        sign_up(server, "first.few.test")
        answer = server.post(
            CREATE_ACCOUNT, {"handle": "second.few.test", "password": PASSWORD}
        )
        assert (answer.status, answer.error) == (429, "RateLimitExceeded")
        assert 0 < int(answer.headers["Retry-After"]) <= 300


def test_failing_directory_leaves_no_account(world: World) -> None:
    with world.serve_pds("lonely", plc_url="http://127.0.0.1:9") as server:
        answer = server.post(
            CREATE_ACCOUNT, {"handle": "nobody.lonely.test", "password": PASSWORD}
        )
        assert (answer.status, answer.error) == (502, "UpstreamFailure")
        assert server.get("com.atproto.sync.listRepos").json["repos"] == []


@pytest.mark.parametrize(
    "identifier",
    ["alice.a.test", "Alice.A.test", "did", "email", " @alice.a.test\u202c "],
)
def test_session_opens_by_handle_did_or_email(
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
    # On a slow machine some points come back meanwhile.
    while 429 not in answers and len(answers) < 90:
        answers.append(server.post(CREATE_SESSION, guess).status)
    assert answers[:30] == [401] * 30
    assert answers[-1] == 429
    assert server.post(CREATE_SESSION, guess | {"identifier": "x.a.test"}).status == 401


def test_tokens_serve_one_purpose_each(server: Client) -> None:
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
        ("Bearer ", "Malformed authorization header"),
        ("Bearer a b", "Malformed authorization header"),
        ("Bearer nonsense", "Token could not be verified"),
    ],
)
@pytest.mark.parametrize(
    "nsid", [GET_SESSION, "app.bsky.feed.getTimeline", REFRESH_SESSION]
)
def test_unsupported_authorization_is_refused(
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
    raw = read_json(f"{world.plc_url}/{alice.did}")
    document = parse_did_document(raw, Did(alice.did), dev=True)
    assert document.signing_key is not None
    check_claims(jwt, now=now, audiences=[audience], lxm=method, max_lifetime=3600)
    check_signature(jwt, parse_did_key(document.signing_key))
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


def test_handle_change_reaches_stream_and_directory(
    world: World, server: Client, alice: Client
) -> None:
    hanna = sign_up(server, "hanna.a.test")
    with server.subscribe() as receive:
        answer = hanna.post(UPDATE_HANDLE, {"handle": "Hanna-New.a.test"})
        assert answer.status == 200
        event = receive()
    assert event.t == "#identity"
    assert (event.body["did"], event.body["handle"]) == (hanna.did, "hanna-new.a.test")
    resolved = server.get(RESOLVE_HANDLE, handle="hanna-new.a.test").json
    assert resolved == {"did": hanna.did}
    assert server.get(RESOLVE_HANDLE, handle="hanna.a.test").error == "HandleNotFound"
    document = read_json(f"{world.plc_url}/{hanna.did}")
    assert document["alsoKnownAs"] == ["at://hanna-new.a.test"]
    assert hanna.get(GET_SESSION).json["handle"] == "hanna-new.a.test"


def test_directory_limit_of_one_account_spares_others(
    server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the directory limits here.
    monkeypatch.setattr("pds.identity.directory._LIMITS_OF_ONE_DID", HostLimits())
    busy = sign_up(server, "busy.a.test")
    answers = [
        busy.post(UPDATE_HANDLE, {"handle": f"busy{n}.a.test"}) for n in range(11)
    ]
    # The directory takes ten operations an hour of one DID, the first one included.
    refused = [answer for answer in answers if answer.status != 200]
    assert {answer.error for answer in refused} == {"RateLimitExceeded"}
    assert {answer.status for answer in refused} == {429}
    assert int(refused[0].headers["Retry-After"]) > 0
    other = sign_up(server, "other.a.test")
    assert other.post(UPDATE_HANDLE, {"handle": "other2.a.test"}).status == 200


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        ("alice.a.test", "HandleNotAvailable"),
        ("other.b.test", "InvalidHandle"),
        ("ha.a.test", "InvalidHandle"),
        ("nonsense", "InvalidRequest"),
    ],
)
def test_unavailable_handle_is_refused(
    server: Client, alice: Client, handle: str, error: str
) -> None:
    name = f"r{abs(hash(handle)) % 10**9}.a.test"
    somebody = sign_up(server, name)
    answer = somebody.post(UPDATE_HANDLE, {"handle": handle})
    assert (answer.status, answer.error) == (400, error)
    assert somebody.get(GET_SESSION).json["handle"] == name


def test_well_known_file_serves_each_handle(server: Client, alice: Client) -> None:
    path = "/.well-known/atproto-did"
    for name in ("alice.a.test", "ALICE.a.test:2582"):
        answer = server.send("GET", path, headers={"Host": name})
        assert (answer.status, answer.body.decode()) == (200, alice.did)
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert server.send("GET", path, headers={"Host": "nobody.a.test"}).status == 404
    assert server.send("GET", path).status == 404


def test_swapped_handles_resolve_at_once(world: World, server: Client) -> None:
    def owners(*names: str) -> list[str | None]:
        found = []
        for name in names:
            answer = server.get(RESOLVE_HANDLE, handle=name.upper())
            did = answer.json["did"] if answer.status == 200 else None
            path = "/.well-known/atproto-did"
            served = server.send("GET", path, headers={"Host": name})
            assert served.body.decode() == (did or "User not found")
            found.append(did)
        return found

    def rename(who: Client, name: str) -> None:
        with server.subscribe() as receive:
            assert who.post(UPDATE_HANDLE, {"handle": name}).status == 200
            event = receive()
        assert event.body["did"] == who.did
        assert (event.t, event.body["handle"]) == ("#identity", name)
        document = read_json(f"{world.plc_url}/{who.did}")
        assert document["alsoKnownAs"] == [f"at://{name}"]

    one, two = sign_up(server, "swap-one.a.test"), sign_up(server, "swap-two.a.test")
    rename(one, "swap-tmp.a.test")
    rename(two, "swap-one.a.test")
    rename(one, "swap-two.a.test")
    names = ("swap-one.a.test", "swap-two.a.test", "swap-tmp.a.test")
    assert owners(*names) == [two.did, one.did, None]
    new = sign_up(server, "swap-tmp.a.test")
    assert owners(*names) == [two.did, one.did, new.did]

    two.post("com.atproto.server.deactivateAccount", {})
    assert owners("swap-one.a.test") == [None]
    for name in ("swap-one.a.test", "SWAP-ONE.a.test"):
        taken = server.post(CREATE_ACCOUNT, {"handle": name, "password": PASSWORD})
        assert (taken.status, taken.error) == (400, "HandleNotAvailable")
        assert taken.json["message"] == "Handle already taken: swap-one.a.test"
        renamed = one.post(UPDATE_HANDLE, {"handle": name})
        assert (renamed.status, renamed.error) == (400, "HandleNotAvailable")
    two.post("com.atproto.server.activateAccount")
    assert owners("swap-one.a.test") == [two.did]


def test_account_deactivates_reactivates_and_is_deleted(server: Client) -> None:
    ivan = sign_up(server, "ivan.a.test")
    with server.subscribe() as receive:
        assert ivan.post("com.atproto.server.deactivateAccount", {}).status == 200
        status = server.get("com.atproto.sync.getRepoStatus", did=ivan.did).json
        assert status == {"did": ivan.did, "active": False, "status": "deactivated"}
        for nsid in ("getRepo", "getLatestCommit", "listBlobs"):
            answer = server.get(f"com.atproto.sync.{nsid}", did=ivan.did)
            assert (answer.status, answer.error) == (400, "RepoDeactivated")
        refused = ivan.create({"$type": "dev.example.note"})
        assert (refused.status, refused.error) == (400, "AccountDeactivated")
        assert server.get(RESOLVE_HANDLE, handle="ivan.a.test").status == 400
        assert ivan.get(GET_SESSION).json["status"] == "deactivated"

        assert ivan.post("com.atproto.server.activateAccount").status == 200
        assert ivan.create({"$type": "dev.example.note"}).status == 200

        leave = {"did": ivan.did, "password": PASSWORD, "token": ivan.token}
        wrong = leave | {"password": "wrong password"}
        delete = "com.atproto.server.deleteAccount"
        assert server.post(delete, wrong).error == "AuthenticationRequired"
        assert server.post(delete, leave | {"token": "x"}).error == "InvalidToken"
        assert server.post(delete, leave).status == 200
        frames = [receive() for _ in range(6)]
    assert [(f.t, f.body.get("active"), f.body.get("status")) for f in frames] == [
        ("#account", False, "deactivated"),
        ("#account", True, None),
        ("#identity", None, None),
        ("#sync", None, None),
        ("#commit", None, None),
        ("#account", False, "deleted"),
    ]
    status = server.get("com.atproto.sync.getRepoStatus", did=ivan.did).json
    assert status == {"did": ivan.did, "active": False, "status": "deleted"}
    assert server.get("com.atproto.sync.getRepo", did=ivan.did).error == "RepoNotFound"
    assert ivan.get(GET_SESSION).error == "ExpiredToken"
    login = {"identifier": ivan.did, "password": PASSWORD}
    assert server.post(CREATE_SESSION, login).error == "AuthenticationRequired"
    # The handle is free again; nothing of the first owner is on the stream.
    sign_up(server, "ivan.a.test")


def test_deleted_account_leaves_no_rows(world: World, server: Client) -> None:
    jack = sign_up(server, "jack.a.test", email="jack@example.com")
    blob = jack.send(
        "POST",
        "/xrpc/com.atproto.repo.uploadBlob",
        body=b"some text",
        headers={"Content-Type": "text/plain"},
    ).json["blob"]
    jack.create({"$type": "dev.example.note", "blob": blob})
    jack.post("app.bsky.actor.putPreferences", {"preferences": []})

    def rows() -> dict[str, int]:
        counts = {}
        with world.pool("a").connection() as conn:
            for name, table in metadata.tables.items():
                if "account" in table.c:
                    row = conn.execute(
                        f"SELECT count(*) FROM {name} WHERE account ="
                        " (SELECT id FROM account WHERE did = %s)",
                        [jack.did],
                    ).fetchone()
                    assert row is not None
                    counts[name] = row[0]
        return counts

    assert all(rows().values()), rows()
    leave = {"did": jack.did, "password": PASSWORD, "token": jack.token}
    assert server.post("com.atproto.server.deleteAccount", leave).status == 200
    # The one event that says so stays.
    assert rows() == dict.fromkeys(rows(), 0) | {"event": 1}
    with world.pool("a").connection() as conn:
        row = conn.execute(
            "SELECT handle, email, password, signing_key, rotation_key FROM account"
            " WHERE did = %s",
            [jack.did],
        ).fetchone()
    assert row == (None, None, "", b"", b"")


def test_no_secret_reaches_the_logs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with world.serve_pds("quiet") as server:
        jane = sign_up(server, "jane.quiet.test")
        server.post(CREATE_SESSION, {"identifier": jane.did, "password": "canary-1"})
        jane.get(GET_SESSION)
        jane.get("app.bsky.unknown.method")
    for secret in (PASSWORD, "canary-1", jane.token, jane.refresh_token):
        assert secret is not None
        assert secret not in caplog.text


def test_secrets_are_not_stored_in_the_clear(world: World, alice: Client) -> None:
    with world.pool("a").connection() as conn:
        rows = conn.execute("SELECT account::text FROM account").fetchall()
    assert rows
    dump = "".join(row[0] for row in rows)
    assert PASSWORD not in dump
    assert PASSWORD.encode().hex() not in dump


def test_preferences_are_stored_and_private(server: Client) -> None:
    kate = sign_up(server, "kate.a.test")
    get, put = "app.bsky.actor.getPreferences", "app.bsky.actor.putPreferences"
    assert kate.get(get).json == {"preferences": []}
    preferences = [
        {"$type": "app.bsky.actor.defs#adultContentPref", "enabled": False},
        {
            "$type": "dev.bigworld.actor.defs#indexerPref",
            "service": "did:web:index.example#bigworld",
        },
        {"$type": "dev.example#nul", "text": "a\u0000b \U0001f600"},
    ]
    assert kate.post(put, {"preferences": preferences}).status == 200
    assert kate.get(get).json == {"preferences": preferences}
    assert server.get(get).error == "AuthMissing"
    other = sign_up(server, "liam.a.test")
    assert other.get(get).json == {"preferences": []}
    for bad in (
        [{"$type": "dev.bigworld.actor.defs#indexerPref", "service": "nonsense"}],
        [{"$type": "dev.example#big", "text": "x" * 300_000}],
        [{"no": "type"}],
    ):
        answer = kate.post(put, {"preferences": bad})
        assert (answer.status, answer.error) == (400, "InvalidRequest")
    assert kate.get(get).json == {"preferences": preferences}


def test_concurrent_sign_ups_assign_a_handle_once(server: Client) -> None:
    def attempt(_: int) -> int:
        return server.post(
            CREATE_ACCOUNT, {"handle": "race.a.test", "password": PASSWORD}
        ).status

    with ThreadPoolExecutor(6) as threads:
        statuses = sorted(threads.map(attempt, range(6)))
    assert statuses == [200, 400, 400, 400, 400, 400]
