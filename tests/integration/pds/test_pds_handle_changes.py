"""Handle changes over HTTP, with a real directory."""

from __future__ import annotations

import pytest
from pds_world import PASSWORD, Client, World, read_json, sign_up

from network.http.policy import HostLimits

CREATE_ACCOUNT = "com.atproto.server.createAccount"
GET_SESSION = "com.atproto.server.getSession"
UPDATE_HANDLE = "com.atproto.identity.updateHandle"
RESOLVE_HANDLE = "com.atproto.identity.resolveHandle"


def test_handle_change_reaches_directory_and_stream(
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


def test_directory_limit_of_one_account_does_not_stop_others(
    server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lift our own limit.
    monkeypatch.setattr("pds.identity.directory._LIMITS_OF_ONE_DID", HostLimits())
    busy = sign_up(server, "busy.a.test")
    answers = [
        busy.post(UPDATE_HANDLE, {"handle": f"busy{n}.a.test"}) for n in range(11)
    ]
    # The directory accepts ten operations per DID and hour.
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
def test_taken_handle_is_refused(
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


def test_handle_that_moves_between_accounts_resolves_at_once(
    world: World, server: Client
) -> None:
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
