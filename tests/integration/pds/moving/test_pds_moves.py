"""Accounts that move from one PDS to another, with a real directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pds_moving import (
    CAR,
    CREATE_ACCOUNT,
    IMPORT,
    arrive,
    export,
    make_car,
    send_repo,
    token_for,
    upload,
    write_notes,
)
from pds_world import PASSWORD, Client, World, head, note, read_json, sign_up
from pds_world import signing_key as served_key

from protocol.data.cbor import encode
from protocol.data.cid import cid_to_text
from protocol.identity.keys import PrivateKey, parse_did_key
from protocol.identity.service_auth import create_service_jwt
from protocol.mst import build_nodes
from protocol.repo.commit import parse_commit, verify_commit_signature
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did, Nsid

CHECK = "com.atproto.server.checkAccountStatus"
ACTIVATE = "com.atproto.server.activateAccount"
RECOMMENDED = "com.atproto.identity.getRecommendedDidCredentials"
REQUEST_SIGNATURE = "com.atproto.identity.requestPlcOperationSignature"
SIGN = "com.atproto.identity.signPlcOperation"
SUBMIT = "com.atproto.identity.submitPlcOperation"
NOW_US = 4_000_000_000_000_000


@pytest.fixture(scope="module")
def other(world: World) -> Iterator[Client]:
    with world.serve_pds("b") as client:
        yield client


def test_account_moves_with_its_repo_blobs_and_identity(
    world: World, server: Client, other: Client
) -> None:
    recovery = PrivateKey.generate().public.did_key
    old = sign_up(
        server, "mover.a.test", email="mover@example.com", recoveryKey=recovery
    )
    write_notes(old, 450)
    blob = upload(old, b"a blob that moves")
    assert old.create(note("with a blob", blob=blob)).status == 200
    before = head(old)
    car = export(old)
    with other.subscribe() as receive:
        new = arrive(old, other, "mover.b.test", recoveryKey=recovery)
        status = new.get(CHECK).json
        assert status["activated"] is False
        assert status["validDid"] is False
        assert (status["indexedRecords"], status["expectedBlobs"]) == (0, 0)

        assert send_repo(new, car).status == 200
        status = new.get(CHECK).json
        assert status["indexedRecords"] == 451
        assert (status["expectedBlobs"], status["importedBlobs"]) == (1, 0)
        missing = new.get("com.atproto.repo.listMissingBlobs").json["blobs"]
        assert [line["cid"] for line in missing] == [blob["ref"]["$link"]]
        assert missing[0]["recordUri"].startswith(f"at://{old.did}/dev.example.note/")
        assert upload(new, b"a blob that moves") == blob
        assert new.get("com.atproto.repo.listMissingBlobs").json["blobs"] == []
        assert new.get(CHECK).json["importedBlobs"] == 1

        # The directory still names the old server.
        refused = new.post(ACTIVATE)
        assert (refused.status, refused.error) == (400, "InvalidRequest")
        assert new.create(note("too early")).error == "AccountDeactivated"

        wanted = new.get(RECOMMENDED).json
        assert wanted["rotationKeys"][0] == recovery
        assert len(wanted["rotationKeys"]) == 2
        assert old.post(REQUEST_SIGNATURE).status == 200
        signed = old.post(SIGN, wanted | {"token": world.mailed_token("a")})
        assert signed.status == 200, signed.body
        assert new.post(SUBMIT, signed.json).status == 200
        assert new.get(CHECK).json["validDid"] is True
        assert new.post(ACTIVATE).status == 200
        assert new.create(note("here at last")).status == 200
        frames = [receive() for _ in range(5)]
    assert [(frame.t, frame.body.get("active")) for frame in frames] == [
        ("#identity", None),
        ("#account", True),
        ("#identity", None),
        ("#sync", None),
        ("#commit", None),
    ]
    data = read_json(f"{world.plc_url}/{old.did}/data")
    assert data["services"]["atproto_pds"]["endpoint"] == other.url
    assert data["rotationKeys"] == wanted["rotationKeys"]
    assert data["alsoKnownAs"] == ["at://mover.b.test"]
    check_head_of_import(new, car, frames[3].body["rev"], before)
    assert new.get("com.atproto.sync.getBlob", did=new.did, cid=blob["ref"]["$link"])
    assert old.post("com.atproto.server.deactivateAccount", {}).status == 200


def check_head_of_import(
    new: Client, car: bytes, rev: str, before: dict[str, str]
) -> None:
    """Check that a new commit of our key has the imported tree."""
    reader = RepoReader(None, Did(new.did), NOW_US)
    reader.feed(car)
    imported = reader.finish()
    reader = RepoReader(served_key(new), Did(new.did), NOW_US)
    assert len(reader.feed(export(new))) == imported.records + 1
    assert reader.finish().rev > Did(rev)
    assert rev > before["rev"]


def test_import_is_safe_to_repeat_and_replaces(
    world: World, server: Client, other: Client
) -> None:
    old = sign_up(server, "twice.a.test")
    write_notes(old, 20)
    first = export(old)
    new = arrive(old, other, "twice.b.test")
    assert send_repo(new, first).status == 200
    once = new.get(CHECK).json
    assert send_repo(new, first).status == 200
    assert new.get(CHECK).json == once
    old.post(
        "com.atproto.repo.deleteRecord",
        {"repo": old.did, "collection": "dev.example.note", "rkey": "note3"},
    )
    old.create(note("one more"))
    assert send_repo(new, export(old)).status == 200
    again = new.get(CHECK).json
    assert again["indexedRecords"] == 20
    assert again["repoRev"] > once["repoRev"]
    with world.pool("b").connection() as conn:
        stored = conn.execute(
            "SELECT cid, value FROM block WHERE account ="
            " (SELECT id FROM account WHERE did = %s)",
            [new.did],
        ).fetchall()
        records = conn.execute(
            "SELECT path, cid FROM record WHERE account ="
            " (SELECT id FROM account WHERE did = %s) ORDER BY path",
            [new.did],
        ).fetchall()
    nodes = {n.cid for n in build_nodes((p.encode(), c) for p, c in records)}
    commit = again["repoCommit"]
    assert {cid_to_text(cid) for cid, _ in stored} == (
        {cid_to_text(cid) for cid in nodes | {cid for _, cid in records}} | {commit}
    )
    assert again["repoBlocks"] == len(stored)


def test_bad_repos_change_nothing(world: World, server: Client, other: Client) -> None:
    old = sign_up(server, "bad.a.test")
    stranger = sign_up(server, "stranger.a.test")
    write_notes(old, 30)
    good = export(old)
    new = arrive(old, other, "bad.b.test")
    before = new.get(CHECK).json
    key = PrivateKey.generate()
    text = encode({"$type": "dev.example.note", "text": "x"})
    cars = {
        "another account": export(stranger),
        "wrong key": make_car(old.did, key, {"dev.example.note/a": text}),
        "bad path": make_car(old.did, key, {"note/a": text}),
        "no record": make_car(old.did, key, {"dev.example.note/a": encode([1])}),
        "cut short": good[: len(good) // 2],
        "changed": good[:-5] + b"\0" + good[-4:],
        "nothing": b"",
        "noise": b"\xff" * 1_000,
    }
    for name, car in cars.items():
        answer = send_repo(new, car)
        assert (answer.status, answer.error) == (400, "InvalidRequest"), name
        assert new.get(CHECK).json == before, name
    wrong_type = new.send(
        "POST", IMPORT, body=good, headers={"Content-Type": "application/json"}
    )
    assert (wrong_type.status, wrong_type.error) == (400, "InvalidRequest")
    assert Client(other.url).send("POST", IMPORT, body=good, headers=CAR).status == 401
    assert send_repo(new, good).status == 200


def test_import_over_the_limit_is_refused(world: World, server: Client) -> None:
    with world.serve_pds("small", max_import_bytes=2_000) as small:
        old = sign_up(server, "large.a.test")
        write_notes(old, 100)
        new = arrive(old, small, "large.small.test")
        answer = send_repo(new, export(old))
        assert (answer.status, answer.error) == (413, "PayloadTooLarge")


def test_active_account_that_imports_sends_a_sync_event(server: Client) -> None:
    account = sign_up(server, "redo.a.test")
    write_notes(account, 3)
    car = export(account)
    write_notes_again = account.create(note("lost by the import"))
    assert write_notes_again.status == 200
    with server.subscribe() as receive:
        assert send_repo(account, car).status == 200
        frame = receive()
    assert frame.t == "#sync"
    assert frame.body["rev"] == head(account)["rev"]
    assert frame.body["rev"] > write_notes_again.json["commit"]["rev"]


@pytest.mark.parametrize("case", ["none", "other account", "other method", "old"])
def test_existing_account_requires_its_own_token(
    server: Client, other: Client, case: str
) -> None:
    owner = sign_up(server, f"owner-{case[-5:].strip()}.a.test")
    fields = {"handle": "taken.b.test", "did": owner.did, "password": PASSWORD}
    did = other.get("com.atproto.server.describeServer").json["did"]
    if case == "none":
        token = None
    elif case == "other account":
        token = token_for(sign_up(server, "envious.a.test"), other)
    elif case == "other method":
        token = owner.get(
            "com.atproto.server.getServiceAuth", aud=did, lxm="app.bsky.feed.getFeed"
        ).json["token"]
    else:
        token = create_service_jwt(
            iss=Did(owner.did),
            aud=did,
            lxm=Nsid(CREATE_ACCOUNT),
            key=PrivateKey.generate(),
            now=1_700_000_000,
        )
    answer = Client(other.url).post(CREATE_ACCOUNT, fields, token=token)
    assert answer.status == 401, answer.body
    repos = other.get("com.atproto.sync.listRepos").json["repos"]
    assert owner.did not in [repo["did"] for repo in repos]


def test_account_arrives_once_and_again_after_deletion(
    world: World, server: Client, other: Client
) -> None:
    old = sign_up(server, "again.a.test")
    new = arrive(old, other, "again.b.test")
    fields = {"handle": "again2.b.test", "did": old.did, "password": PASSWORD}
    answer = Client(other.url).post(CREATE_ACCOUNT, fields, token=token_for(old, other))
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    key = new.get(RECOMMENDED).json["verificationMethods"]["atproto"]
    leave = {"did": new.did, "password": PASSWORD, "token": new.token}
    assert new.post("com.atproto.server.deleteAccount", leave).status == 200
    back = arrive(old, other, "again.b.test")
    assert back.get(RECOMMENDED).json["verificationMethods"]["atproto"] != key
    assert send_repo(back, export(old)).status == 200
    assert back.get("com.atproto.server.getServiceAuth", aud="did:web:x.test").status


def test_other_handle_must_point_at_the_account(server: Client, other: Client) -> None:
    owner = sign_up(server, "pointer.a.test")
    for handle, error in [
        ("elsewhere.example.com", "InvalidHandle"),
        ("admin.b.test", "HandleNotAvailable"),
        ("x.y.b.test", "InvalidHandle"),
    ]:
        answer = Client(other.url).post(
            CREATE_ACCOUNT,
            {"handle": handle, "did": owner.did, "password": PASSWORD},
            token=token_for(owner, other),
        )
        assert (answer.status, answer.error) == (400, error), handle


def test_identity_tokens_are_used_once(world: World, server: Client) -> None:
    owner = sign_up(server, "token.a.test", email="token@example.com")
    assert owner.post(SIGN, {}).error == "InvalidRequest"
    assert owner.post(SIGN, {"token": "AAAAA-AAAAA"}).error == "InvalidToken"
    assert owner.post(REQUEST_SIGNATURE).status == 200
    first = world.mailed_token()
    assert owner.post(REQUEST_SIGNATURE).status == 200
    token = world.mailed_token()
    assert owner.post(SIGN, {"token": first}).error == "InvalidToken"
    # A request that fails does not use up the token.
    bad = owner.post(SIGN, {"token": token, "rotationKeys": ["did:key:zNo"]})
    assert (bad.status, bad.error) == (400, "InvalidRequest")
    other = sign_up(server, "thief.a.test", email="thief@example.com")
    assert other.post(SIGN, {"token": token}).error == "InvalidToken"
    assert owner.post(SIGN, {"token": f" {token.lower()} "}).status == 200
    assert owner.post(SIGN, {"token": token}).error == "InvalidToken"
    bare = sign_up(server, "bare.a.test")
    assert bare.post(REQUEST_SIGNATURE).error == "InvalidRequest"
    with world.pool("a").connection() as conn:
        rows = conn.execute("SELECT count(*) FROM email_token").fetchone()
    assert rows == (0,)


def test_operations_that_lead_away_are_refused(world: World, server: Client) -> None:
    owner = sign_up(server, "stay.a.test", email="stay@example.com")

    def submit(**changes: Any) -> Any:
        assert owner.post(REQUEST_SIGNATURE).status == 200
        signed = owner.post(SIGN, {"token": world.mailed_token()} | changes)
        assert signed.status == 200, signed.body
        return owner.post(SUBMIT, signed.json)

    key = PrivateKey.generate().public.did_key
    pds = {"atproto_pds": {"type": "AtprotoPersonalDataServer", "endpoint": "x"}}
    for changes in (
        {"rotationKeys": [key]},
        {"alsoKnownAs": ["at://other.a.test"]},
        {"verificationMethods": {"atproto": key}},
        {"services": pds},
    ):
        answer = submit(**changes)
        assert (answer.status, answer.error) == (400, "InvalidRequest"), changes
    last = read_json(f"{world.plc_url}/{owner.did}/log/last")
    assert last["prev"] is None
    assert owner.post(SUBMIT, {"operation": {"type": "plc_tombstone"}}).status == 400


def test_operation_over_the_limits_is_not_sent(world: World, server: Client) -> None:
    owner = sign_up(server, "long.a.test", email="long@example.com")
    assert owner.post(REQUEST_SIGNATURE).status == 200
    token = world.mailed_token()
    keys = [PrivateKey.generate().public.did_key for _ in range(6)]
    for changes in (
        {"alsoKnownAs": [f"at://n{number}.a.test" for number in range(11)]},
        {"alsoKnownAs": ["at://" + "x" * 300]},
        {"rotationKeys": keys},
        {"rotationKeys": []},
        {"services": {"a" * 40: {"type": "a", "endpoint": "b"}}},
    ):
        answer = owner.post(SIGN, {"token": token} | changes)
        assert (answer.status, answer.error) == (400, "InvalidRequest"), changes


def test_identities_are_resolved_both_ways(world: World, server: Client) -> None:
    owner = sign_up(server, "named.a.test")
    document = server.get("com.atproto.identity.resolveDid", did=owner.did).json
    assert document["didDoc"]["id"] == owner.did
    for identifier in (owner.did, "Named.a.test"):
        found = server.get(
            "com.atproto.identity.resolveIdentity", identifier=identifier
        ).json
        assert (found["did"], found["handle"]) == (owner.did, "named.a.test")
        assert found["didDoc"] == document["didDoc"]
    refreshed = owner.post(
        "com.atproto.identity.refreshIdentity", {"identifier": owner.did}
    )
    assert refreshed.json["handle"] == "named.a.test"
    missing = "did:plc:" + "a" * 24
    for nsid, name, value, error in [
        ("resolveDid", "did", missing, "DidNotFound"),
        ("resolveDid", "did", "did:example:a", "DidNotFound"),
        ("resolveIdentity", "identifier", missing, "DidNotFound"),
        ("resolveIdentity", "identifier", "nobody.a.test", "HandleNotFound"),
    ]:
        answer = server.get(f"com.atproto.identity.{nsid}", **{name: value})
        assert (answer.status, answer.error) == (400, error), (nsid, value)


def test_signature_of_the_imported_head_is_ours(
    world: World, server: Client, other: Client
) -> None:
    old = sign_up(server, "ours.a.test")
    write_notes(old, 2)
    new = arrive(old, other, "ours.b.test")
    assert send_repo(new, export(old)).status == 200
    status = new.get(CHECK).json
    with world.pool("b").connection() as conn:
        row = conn.execute(
            "SELECT b.value, r.data, a.signing_did_key FROM repo r"
            " JOIN account a ON a.id = r.account JOIN block b"
            " ON b.account = a.id AND b.cid = r.commit WHERE a.did = %s",
            [new.did],
        ).fetchone()
    assert row is not None
    signed, data, _ = row
    commit = parse_commit(signed)
    assert (commit.data, commit.rev) == (data, status["repoRev"])
    wanted = new.get(RECOMMENDED).json["verificationMethods"]["atproto"]
    verify_commit_signature(signed, parse_did_key(wanted))
