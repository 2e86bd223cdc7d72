"""The operator's methods over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from pds_moving import upload, write_notes
from pds_world import PASSWORD, Client, World, note, read_json, sign_up

NS = "com.atproto.admin."
UPDATE = NS + "updateSubjectStatus"
STATUS = NS + "getSubjectStatus"
BLOB = "bafkreigyia5vqnnpapjc6p5k23ukzc47kadxhbeuzfvjq52bftz7k2d56a"
CREATE_SESSION = "com.atproto.server.createSession"
GET_SESSION = "com.atproto.server.getSession"


def repo_ref(client: Client) -> dict[str, str]:
    return {"$type": NS + "defs#repoRef", "did": client.did}


def set_takedown(server: Client, subject: Any, applied: bool, ref: str = "7") -> None:
    body = {"subject": subject, "takedown": {"applied": applied, "ref": ref}}
    answer = server.operate(UPDATE, body)
    assert answer.status == 200, answer.body
    assert answer.json == body


@pytest.mark.parametrize(
    "nsid", ["getAccountInfo", "updateSubjectStatus", "deleteAccount", "nothing"]
)
def test_only_the_operator_is_admitted(
    server: Client, alice: Client, nsid: str
) -> None:
    for client in (server, alice):
        for answer in (client.get(NS + nsid), client.post(NS + nsid, {})):
            assert answer.status in (401, 405, 501)
    wrong = {"Authorization": "Basic YWRtaW46d3Jvbmc="}
    answer = server.send("GET", f"/xrpc/{NS}getAccountInfo", headers=wrong)
    assert (answer.status, answer.error) == (401, "AuthenticationRequired")


def test_guesses_of_the_password_are_limited(world: World) -> None:
    with world.serve_pds("guess") as server:
        wrong = {"Authorization": "Basic YWRtaW46d3Jvbmc="}
        path = f"/xrpc/{NS}getAccountInfo?did=did:web:x.test"
        codes = [server.send("GET", path, headers=wrong).status for _ in range(32)]
    assert codes == [401] * 30 + [429] * 2


def test_operator_without_a_password_has_no_way_in(world: World) -> None:
    with world.serve_pds("shut", admin_password=None) as server:
        answer = server.operate(NS + "getAccountInfo", did="did:web:x.test")
        assert (answer.status, answer.error) == (401, "AuthenticationRequired")


def test_accounts_are_shown_and_searched(server: Client, alice: Client) -> None:
    bob = sign_up(server, "robert.a.test", email="alina@example.com")
    info = server.operate(NS + "getAccountInfo", did=alice.did).json
    assert (info["handle"], info["email"]) == ("alice.a.test", "alice@example.com")
    assert info["invitesDisabled"] is False
    assert info["invites"] == []
    infos = server.operate(
        NS + "getAccountInfos", dids=[bob.did, alice.did, "did:web:none.test"]
    ).json["infos"]
    assert [item["did"] for item in infos] == [bob.did, alice.did]
    missing = server.operate(NS + "getAccountInfo", did="did:web:none.test")
    assert (missing.status, missing.error) == (400, "NotFound")
    search = NS + "searchAccounts"
    found = server.operate(search, email="ALI").json["accounts"]
    assert [item["did"] for item in found] == [alice.did, bob.did]
    first = server.operate(search, email="ali", limit=1).json
    second = server.operate(search, email="ali", limit=1, cursor=first["cursor"]).json
    assert [item["did"] for item in second["accounts"]] == [bob.did]
    seen, cursor = [], {}
    while True:
        page = server.operate(search, limit=1, **cursor).json
        seen += [item["did"] for item in page["accounts"]]
        if "cursor" not in page:
            break
        cursor = {"cursor": page["cursor"]}
    assert len(seen) == len(set(seen))
    assert {alice.did, bob.did} <= set(seen)
    for odd in ("%", "ali%", "a_ice", "zz"):
        assert server.operate(search, email=odd).json == {"accounts": []}


def test_takedown_hides_the_repo_and_is_lifted(server: Client) -> None:
    owner = sign_up(server, "gone.a.test")
    write_notes(owner, 3)
    with server.subscribe() as receive:
        set_takedown(server, repo_ref(owner), True)
        frame = receive()
        assert (frame.t, frame.body["active"]) == ("#account", False)
        assert frame.body["status"] == "takendown"
        assert owner.get(GET_SESSION).error == "ExpiredToken"
        repo = {"did": owner.did}
        reply = server.get("com.atproto.sync.getRepo", **repo)
        assert (reply.status, reply.error) == (400, "RepoTakendown")
        assert server.operate("com.atproto.sync.getRepo", **repo).status == 200
        status = server.operate(STATUS, did=owner.did).json
        assert status["takedown"] == {"applied": True, "ref": "7"}
        assert status["deactivated"] == {"applied": False}
        login = {"identifier": owner.did, "password": PASSWORD}
        refused = Client(server.url).post(CREATE_SESSION, login)
        assert (refused.status, refused.error) == (401, "AccountTakedown")

        set_takedown(server, repo_ref(owner), False)
        assert receive().body["active"] is True
    assert server.get("com.atproto.sync.getRepo", did=owner.did).status == 200
    assert Client(server.url).post(CREATE_SESSION, login).status == 200


def test_owner_leaves_after_a_takedown(world: World, server: Client) -> None:
    owner = sign_up(server, "leaver.a.test", email="leaver@example.com")
    made = owner.post("com.atproto.server.createAppPassword", {"name": "app"}).json
    set_takedown(server, repo_ref(owner), True)
    login = {"identifier": owner.did, "allowTakendown": True}
    client = Client(server.url)
    app = client.post(CREATE_SESSION, login | {"password": made["password"]})
    assert (app.status, app.error) == (401, "AuthenticationRequired")
    session = client.post(CREATE_SESSION, login | {"password": PASSWORD})
    assert session.status == 200
    assert session.json["status"] == "takendown"
    owner = Client(server.url, session.json["accessJwt"], owner.did)
    auth = "com.atproto.server.getServiceAuth"
    audience = "did:web:elsewhere.example.com"
    lxm = "com.atproto.server.createAccount"
    assert owner.get(auth, aud=audience, lxm=lxm).status == 200
    refused = owner.get(auth, aud=audience, lxm="app.bsky.feed.getTimeline")
    assert (refused.status, refused.error) == (400, "InvalidToken")
    assert owner.get("com.atproto.sync.getRepo", did=owner.did).status == 200
    request = "com.atproto.identity.requestPlcOperationSignature"
    assert owner.post(request).status == 200
    sign = "com.atproto.identity.signPlcOperation"
    assert owner.post(sign, {"token": world.mailed_token()}).status == 200
    for answer in (
        owner.create(note("still here")),
        owner.get("com.atproto.server.listAppPasswords"),
        owner.post("com.atproto.server.activateAccount"),
        owner.post(
            "com.atproto.server.refreshSession", token=session.json["refreshJwt"]
        ),
    ):
        assert answer.error in ("InvalidToken", "AccountTakedown")
    # It stays deactivated when the takedown is lifted.
    assert owner.post("com.atproto.server.deactivateAccount", {}).status == 200
    set_takedown(server, repo_ref(owner), False)
    status = server.get("com.atproto.sync.getRepoStatus", did=owner.did).json
    assert (status["active"], status["status"]) == (False, "deactivated")
    info = server.operate(NS + "getAccountInfo", did=owner.did).json
    assert "deactivatedAt" in info


def test_takedown_hides_one_record_and_one_blob(server: Client) -> None:
    owner = sign_up(server, "partly.a.test")
    blob = upload(owner, b"a hidden blob")
    made = owner.create(note("hidden", blob=blob)).json
    owner.create(note("shown"))
    record = {"$type": "com.atproto.repo.strongRef", "uri": made["uri"]}
    record["cid"] = made["cid"]
    cid = blob["ref"]["$link"]
    stored = {"$type": NS + "defs#repoBlobRef", "did": owner.did, "cid": cid}
    where = {"repo": owner.did, "collection": "dev.example.note"}
    rkey = made["uri"].rpartition("/")[2]

    def visible() -> tuple[int, int, int]:
        one = server.get("com.atproto.repo.getRecord", **where, rkey=rkey)
        page = server.get("com.atproto.repo.listRecords", **where).json["records"]
        data = server.get("com.atproto.sync.getBlob", did=owner.did, cid=cid)
        return one.status, len(page), data.status

    assert visible() == (200, 2, 200)
    set_takedown(server, record, True)
    assert visible() == (400, 1, 200)
    set_takedown(server, stored, True)
    assert visible() == (400, 1, 400)
    assert server.operate(STATUS, uri=made["uri"]).json["takedown"]["applied"] is True
    assert server.operate(STATUS, did=owner.did, blob=cid).json["subject"] == stored
    operators = server.operate("com.atproto.sync.getBlob", did=owner.did, cid=cid)
    assert operators.body == b"a hidden blob"
    set_takedown(server, record, False)
    set_takedown(server, stored, False)
    assert visible() == (200, 2, 200)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({}, "InvalidRequest"),
        ({"blob": BLOB}, "InvalidRequest"),
        ({"did": "did:web:none.test"}, "NotFound"),
        ({"uri": "at://did:web:none.test/a.b.c/d"}, "NotFound"),
    ],
)
def test_unknown_subject_is_refused(
    server: Client, params: dict[str, str], error: str
) -> None:
    answer = server.operate(STATUS, **params)
    assert (answer.status, answer.error) == (400, error)


def test_operator_deactivates_and_activates(server: Client) -> None:
    owner = sign_up(server, "paused.a.test")
    for applied in (True, False):
        body = {"subject": repo_ref(owner), "deactivated": {"applied": applied}}
        assert server.operate(UPDATE, body).status == 200
        status = server.get("com.atproto.sync.getRepoStatus", did=owner.did).json
        assert status["active"] is not applied
    both = body | {"takedown": {"applied": True}}
    assert server.operate(UPDATE, both).error == "InvalidRequest"


def test_operator_changes_address_handle_and_password(
    world: World, server: Client
) -> None:
    owner = sign_up(server, "helped.a.test", email="helped@example.com")
    email = {"account": "helped.a.test", "email": "fixed@example.com"}
    assert server.operate(NS + "updateAccountEmail", email).status == 200
    assert owner.get(GET_SESSION).json["email"] == "fixed@example.com"
    # A reserved handle is the operator's to give.
    handle = {"did": owner.did, "handle": "support.a.test"}
    assert server.operate(NS + "updateAccountHandle", handle).status == 200
    data = read_json(f"{world.plc_url}/{owner.did}/data")
    assert data["alsoKnownAs"] == ["at://support.a.test"]
    password = {"did": owner.did, "password": "a password of the operator"}
    assert server.operate(NS + "updateAccountPassword", password).status == 200
    assert owner.get(GET_SESSION).error == "ExpiredToken"
    login = {"identifier": "support.a.test", "password": password["password"]}
    assert Client(server.url).post(CREATE_SESSION, login).status == 200
    sent = server.operate(
        NS + "sendEmail",
        {"recipientDid": owner.did, "senderDid": owner.did, "content": "Hello there"},
    )
    assert sent.json == {"sent": True}
    assert world.newest_mail().strip() == "Hello there"
    assert server.operate(NS + "deleteAccount", {"did": owner.did}).status == 200
    status = server.get("com.atproto.sync.getRepoStatus", did=owner.did).json
    assert status["status"] == "deleted"
    for nsid, body in [
        ("updateAccountEmail", email | {"account": owner.did}),
        ("updateAccountHandle", handle),
        ("updateAccountPassword", password),
        ("deleteAccount", {"did": owner.did}),
    ]:
        answer = server.operate(NS + nsid, body)
        assert (answer.status, answer.error) == (400, "InvalidRequest"), nsid


def test_owner_reads_a_deactivated_repo(server: Client, alice: Client) -> None:
    owner = sign_up(server, "absent.a.test")
    blob = upload(owner, b"mine")
    owner.create(note("mine", blob=blob))
    owner.post("com.atproto.server.deactivateAccount", {})
    repo = {"did": owner.did}
    for nsid, more in [
        ("getRepo", {}),
        ("getLatestCommit", {}),
        ("listBlobs", {}),
        ("getBlob", {"cid": blob["ref"]["$link"]}),
    ]:
        method = f"com.atproto.sync.{nsid}"
        assert owner.get(method, **repo, **more).status == 200
        for client in (server, alice):
            assert client.get(method, **repo, **more).error == "RepoDeactivated"


def test_invite_codes_are_listed_and_disabled(server: Client) -> None:
    host = sign_up(server, "inviter.a.test")
    create = "com.atproto.server.createInviteCodes"
    given = {"codeCount": 2, "useCount": 1, "forAccounts": [host.did]}
    codes = server.operate(create, given).json["codes"][0]["codes"]
    other = server.operate(create, {"codeCount": 1, "useCount": 1}).json["codes"]
    listed, cursor = [], {}
    while True:
        page = server.operate(NS + "getInviteCodes", limit=1, **cursor).json
        listed += [code["code"] for code in page["codes"]]
        if "cursor" not in page:
            break
        cursor = {"cursor": page["cursor"]}
    assert len(listed) == len(set(listed)) == 3
    by_use = server.operate(NS + "getInviteCodes", sort="usage").json["codes"]
    assert {code["code"] for code in by_use} == set(listed)
    assert server.operate(NS + "getInviteCodes", sort="odd").error == "InvalidRequest"

    disable = NS + "disableInviteCodes"
    assert server.operate(disable, {"accounts": ["admin"]}).error == "InvalidRequest"
    body = {"accounts": [host.did], "codes": other[0]["codes"]}
    assert server.operate(disable, body).status == 200
    shown = server.operate(NS + "getInviteCodes").json["codes"]
    assert {code["disabled"] for code in shown} == {True}
    account_codes = "com.atproto.server.getAccountInviteCodes"
    assert host.get(account_codes).json["codes"] == []

    subject = {"account": host.did}
    assert server.operate(NS + "disableAccountInvites", subject).status == 200
    info = server.operate(NS + "getAccountInfo", did=host.did).json
    assert info["invitesDisabled"] is True
    assert {code["code"] for code in info["invites"]} == set(codes)
    server.operate(create, given)
    assert host.get(account_codes).json["codes"] == []
    assert server.operate(NS + "enableAccountInvites", subject).status == 200
    server.operate(create, given)
    assert len(host.get(account_codes).json["codes"]) == 2
