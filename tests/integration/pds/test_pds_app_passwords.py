"""App passwords over HTTP: what they open, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, note, sign_up

CREATE = "com.atproto.server.createAppPassword"
LIST = "com.atproto.server.listAppPasswords"
REVOKE = "com.atproto.server.revokeAppPassword"
CREATE_SESSION = "com.atproto.server.createSession"
GET_SESSION = "com.atproto.server.getSession"
GET_SERVICE_AUTH = "com.atproto.server.getServiceAuth"
GET_PREFERENCES = "app.bsky.actor.getPreferences"
PUT_PREFERENCES = "app.bsky.actor.putPreferences"


def log_in(owner: Client, password: str) -> Client:
    answer = Client(owner.url).post(
        CREATE_SESSION, {"identifier": owner.did, "password": password}
    )
    assert answer.status == 200, answer.body
    session = answer.json
    return Client(
        owner.url, session["accessJwt"], session["did"], session["refreshJwt"]
    )


def open_app(owner: Client, name: str, **more: Any) -> Client:
    """Create an app password; return a client with a session of it."""
    made = owner.post(CREATE, {"name": name} | more).json
    return log_in(owner, made["password"])


def test_app_password_opens_a_session_until_it_is_revoked(
    world: World, server: Client
) -> None:
    owner = sign_up(server, "appowner.a.test")
    made = owner.post(CREATE, {"name": "a reader"}).json
    assert made["privileged"] is False
    listed = owner.get(LIST).json["passwords"]
    assert listed == [{k: v for k, v in made.items() if k != "password"}]
    app = log_in(owner, made["password"])
    other = open_app(owner, "a writer", privileged=True)
    assert app.create(note("by an app")).status == 200
    refreshed = app.post(
        "com.atproto.server.refreshSession", token=app.refresh_token
    ).json
    newer = Client(owner.url, refreshed["accessJwt"], owner.did)
    assert newer.post(CREATE, {"name": "more"}).error == "InvalidToken"
    with world.pool("a").connection() as conn:
        rows = conn.execute("SELECT app_password::text FROM app_password").fetchall()
    assert made["password"] not in str(rows)

    assert owner.post(REVOKE, {"name": "a reader"}).status == 200
    for client in (app, newer):
        assert client.get(GET_SESSION).error == "ExpiredToken"
    answer = Client(owner.url).post(
        CREATE_SESSION, {"identifier": owner.did, "password": made["password"]}
    )
    assert (answer.status, answer.error) == (401, "AuthenticationRequired")
    assert other.get(GET_SESSION).status == 200
    assert [item["name"] for item in owner.get(LIST).json["passwords"]] == ["a writer"]


def test_app_password_of_another_account_is_refused(server: Client) -> None:
    owner = sign_up(server, "apps1.a.test")
    other = sign_up(server, "apps2.a.test")
    made = owner.post(CREATE, {"name": "mine"}).json
    answer = Client(server.url).post(
        CREATE_SESSION, {"identifier": other.did, "password": made["password"]}
    )
    assert (answer.status, answer.error) == (401, "AuthenticationRequired")


@pytest.mark.parametrize("privileged", [False, True])
@pytest.mark.parametrize(
    ("nsid", "body"),
    [
        ("com.atproto.server.activateAccount", None),
        ("com.atproto.server.deactivateAccount", {}),
        (CREATE, {"name": "x"}),
        ("com.atproto.server.requestAccountDelete", None),
        ("com.atproto.server.requestEmailUpdate", None),
        ("com.atproto.server.updateEmail", {"email": "thief@example.com"}),
        ("com.atproto.identity.requestPlcOperationSignature", None),
        ("com.atproto.identity.signPlcOperation", {"token": "x"}),
        ("com.atproto.repo.importRepo", None),
    ],
)
def test_app_password_cannot_take_an_account_over(
    server: Client, nsid: str, body: Any, privileged: bool
) -> None:
    key = f"owner {privileged}"
    if not hasattr(server, key):
        owner = sign_up(server, f"taken{int(privileged)}.a.test")
        setattr(server, key, open_app(owner, "thief", privileged=privileged))
    answer = getattr(server, key).post(nsid, body)
    assert (answer.status, answer.error) == (400, "InvalidToken")


def test_only_a_privileged_app_reads_private_messages(server: Client) -> None:
    owner = sign_up(server, "chatter.a.test")
    plain = open_app(owner, "plain")
    trusted = open_app(owner, "trusted", privileged=True)
    chat = "chat.bsky.convo.listConvos"
    refused = plain.get(chat)
    assert (refused.status, refused.error) == (400, "InvalidToken")
    # No service is set, so an allowed call reaches the choice of a service.
    assert trusted.get(chat).error == "MethodNotImplemented"
    audience = "did:web:chat.example.com"
    for lxm in (chat, "com.atproto.server.createAccount"):
        refused = plain.get(GET_SERVICE_AUTH, aud=audience, lxm=lxm)
        assert (refused.status, refused.error) == (400, "InvalidRequest")
        assert trusted.get(GET_SERVICE_AUTH, aud=audience, lxm=lxm).status == 200
    feed = "app.bsky.feed.getTimeline"
    assert plain.get(GET_SERVICE_AUTH, aud=audience, lxm=feed).status == 200


def test_apps_do_not_see_the_birth_date(server: Client) -> None:
    owner = sign_up(server, "birthday.a.test")
    app = open_app(owner, "curious", privileged=True)
    private = {
        "$type": "app.bsky.actor.defs#personalDetailsPref",
        "birthDate": "1990-01-02T00:00:00.000Z",
    }
    public = {"$type": "app.bsky.actor.defs#adultContentPref", "enabled": False}
    owner.post(PUT_PREFERENCES, {"preferences": [private, public]})
    assert app.get(GET_PREFERENCES).json["preferences"] == [public]
    refused = app.post(PUT_PREFERENCES, {"preferences": [private]})
    assert (refused.status, refused.error) == (400, "InvalidRequest")
    assert app.post(PUT_PREFERENCES, {"preferences": []}).status == 200
    assert owner.get(GET_PREFERENCES).json["preferences"] == [private]


def test_names_and_number_of_app_passwords_are_bounded(
    server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = sign_up(server, "many.a.test")
    for name in ("", "x" * 129, "a\0b"):
        assert owner.post(CREATE, {"name": name}).error == "InvalidRequest"
    assert owner.post(CREATE, {"name": "one"}).status == 200
    assert owner.post(CREATE, {"name": "one"}).error == "InvalidRequest"
    monkeypatch.setattr("pds.server.app_passwords.MAX_APP_PASSWORDS", 2)
    assert owner.post(CREATE, {"name": "two"}).status == 200
    assert owner.post(CREATE, {"name": "three"}).error == "InvalidRequest"
    assert owner.post(REVOKE, {"name": "a\0b"}).status == 200


def test_app_password_is_read_with_capitals_and_spaces(server: Client) -> None:
    owner = sign_up(server, "typed.a.test")
    made = owner.post(CREATE, {"name": "typed"}).json
    assert log_in(owner, f" {made['password'].upper()} ").get(GET_SESSION).status == 200
    assert log_in(owner, PASSWORD).get(LIST).status == 200
