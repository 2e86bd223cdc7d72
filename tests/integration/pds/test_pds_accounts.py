"""Accounts over HTTP, with a real directory: creation, deletion, private data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, read_json, sign_up
from psycopg.errors import UniqueViolation

from pds.server.accounts import NewAccount
from pds.tables import metadata
from protocol.identity.did_document import parse_did_document
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did

CREATE_ACCOUNT = "com.atproto.server.createAccount"
CREATE_SESSION = "com.atproto.server.createSession"
GET_SESSION = "com.atproto.server.getSession"
INVITE_CODES = "com.atproto.server.getAccountInviteCodes"
RESOLVE_HANDLE = "com.atproto.identity.resolveHandle"


def test_describe_server_shows_the_settings(server: Client) -> None:
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


def test_recovery_key_comes_first(world: World, server: Client) -> None:
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
        ({"plcOp": {"type": "plc_operation"}}, "InvalidRequest"),
        ({"recoveryKey": "did:key:z6Mk"}, "InvalidRequest"),
    ],
)
def test_bad_sign_up_is_refused(
    server: Client, alice: Client, changes: dict[str, Any], error: str
) -> None:
    fields = {"handle": "bobby.a.test", "password": PASSWORD} | changes
    answer = server.post(CREATE_ACCOUNT, fields)
    assert (answer.status, answer.error) == (400, error)
    resolved = server.get(RESOLVE_HANDLE, handle="bobby.a.test")
    assert resolved.error == "HandleNotFound"


def test_invite_code_is_required_if_set(world: World) -> None:
    with world.serve_pds("invite", invite_code="open-sesame") as server:
        fields = {"handle": "carol.invite.test", "password": PASSWORD}
        for code in ({}, {"inviteCode": "open"}, {"inviteCode": "\u00f6"}):
            answer = server.post(CREATE_ACCOUNT, fields | code)
            assert (answer.status, answer.error) == (400, "InvalidInviteCode")
        carol = sign_up(server, "carol.invite.test", inviteCode="open-sesame")
        # The code is the operator's: it is no account's to give away.
        assert server.get(INVITE_CODES).status == 401
        assert carol.get(INVITE_CODES).json == {"codes": []}


def test_sign_ups_are_limited(world: World) -> None:
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


def test_identity_of_a_failed_sign_up_is_ended(
    world: World, server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    dids = []

    def fail(conn: Any, new: NewAccount, *_: Any) -> int:
        dids.append(new.did)
        raise UniqueViolation

    monkeypatch.setattr("pds.server.lifecycle.create_account", fail)
    fields = {"handle": "failed.a.test", "password": PASSWORD}
    assert server.post(CREATE_ACCOUNT, fields).error == "HandleNotAvailable"
    last = read_json(f"{world.plc_url}/{dids[0]}/log/last")
    assert last["type"] == "plc_tombstone"
    monkeypatch.undo()
    sign_up(server, "failed.a.test")


def test_account_is_deactivated_activated_and_deleted(server: Client) -> None:
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
    # The handle is free again; the stream has no events of the first account.
    sign_up(server, "ivan.a.test")


def test_deleted_account_leaves_no_rows(world: World, server: Client) -> None:
    jack = sign_up(server, "jack.a.test", email="jack@example.com")
    blob = jack.send(
        "POST",
        "/xrpc/com.atproto.repo.uploadBlob",
        body=b"some text",
        headers={"Content-Type": "text/plain"},
    ).json["blob"]
    made = jack.create({"$type": "dev.example.note", "blob": blob}).json
    subject = {"$type": "com.atproto.repo.strongRef"} | {
        name: made[name] for name in ("uri", "cid")
    }
    hidden = server.operate(
        "com.atproto.admin.updateSubjectStatus",
        {"subject": subject, "takedown": {"applied": True}},
    )
    assert hidden.status == 200
    jack.post("app.bsky.actor.putPreferences", {"preferences": []})
    asked = jack.post("com.atproto.identity.requestPlcOperationSignature")
    assert asked.status == 200
    jack.post("com.atproto.server.createAppPassword", {"name": "an app"})

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
    assert server.post("com.atproto.server.deleteAccount", leave).error == (
        "InvalidToken"
    )
    assert jack.post("com.atproto.server.requestAccountDelete").status == 200
    leave["token"] = world.mailed_token()
    assert server.post("com.atproto.server.deleteAccount", leave).status == 200
    # Only the event of the deletion stays.
    assert rows() == dict.fromkeys(rows(), 0) | {"event": 1}
    with world.pool("a").connection() as conn:
        row = conn.execute(
            "SELECT handle, email, password, signing_key, rotation_key FROM account"
            " WHERE did = %s",
            [jack.did],
        ).fetchone()
    assert row == (None, None, "", b"", b"")


def test_logs_hold_no_secret(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with world.serve_pds("quiet") as server:
        jane = sign_up(server, "jane.quiet.test")
        server.post(CREATE_SESSION, {"identifier": jane.did, "password": "canary-1"})
        jane.get(GET_SESSION)
        jane.get("app.bsky.unknown.method")
    for secret in (PASSWORD, "canary-1", jane.token, jane.refresh_token):
        assert secret is not None
        assert secret not in caplog.text


def test_database_holds_no_plain_secret(world: World, alice: Client) -> None:
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
