"""Rate limits of accounts and addresses on a PDS."""

from __future__ import annotations

import json
from typing import Any

from pds_world import PASSWORD, Answer, Client, sign_up

APPLY = "com.atproto.repo.applyWrites"
CREATE_SESSION = "com.atproto.server.createSession"
UPDATE_HANDLE = "com.atproto.identity.updateHandle"
NOTE = "dev.example.note"
SERVER = {"logins_per_5_minutes": 40}


def require_refusal(answer: Answer, limit: int, window: int) -> None:
    assert (answer.status, answer.error) == (429, "RateLimitExceeded")
    assert 0 < int(answer.headers["Retry-After"]) <= window
    assert answer.headers["RateLimit-Limit"] == str(limit)
    assert answer.headers["RateLimit-Policy"] == f"{limit};w={window}"


def writes(kind: str, count: int) -> list[dict[str, Any]]:
    return [
        {"$type": f"{APPLY}#{kind}", "collection": NOTE, "rkey": f"k{number}"}
        | ({} if kind == "delete" else {"value": {"text": kind}})
        for number in range(count)
    ]


def test_writes_cost_points_by_account(server: Client) -> None:
    alice = sign_up(server, "alice.a.test")
    # Create 3, update 2, delete 1: 1,200 points a round.
    for number in range(4):
        for kind in ("create", "update", "delete"):
            body = {"repo": alice.did, "writes": writes(kind, 200)}
            answer = alice.post(APPLY, body)
            assert answer.status == 200
            assert answer.headers["RateLimit-Limit"] == "5000"
            # Points come back meanwhile.
            left = int(answer.headers["RateLimit-Remaining"])
            spent = (
                1200 * number + {"create": 600, "update": 1000, "delete": 1200}[kind]
            )
            assert 0 <= left - (5000 - spent) < 200
    refused = alice.post(APPLY, {"repo": alice.did, "writes": writes("create", 200)})
    require_refusal(refused, 5000, 3600)
    record = {"$type": NOTE, "text": "still some points"}
    assert alice.create(record, rkey="x").status == 200
    bob = sign_up(server, "bob.a.test")
    assert bob.create(record).status == 200


def test_handle_changes_have_a_rate_limit(server: Client) -> None:
    carol = sign_up(server, "carol.a.test")
    for _ in range(10):
        # Refused for itself, and counted all the same.
        answer = carol.post(UPDATE_HANDLE, {"handle": "admin.a.test"})
        assert answer.error == "HandleNotAvailable"
    refused = carol.post(UPDATE_HANDLE, {"handle": "carol2.a.test"})
    require_refusal(refused, 10, 300)


def log_in(server: Client, identifier: str, address: str) -> Answer:
    return server.send(
        "POST",
        f"/xrpc/{CREATE_SESSION}",
        body=json.dumps({"identifier": identifier, "password": PASSWORD}).encode(),
        headers={"Content-Type": "application/json", "X-Forwarded-For": address},
    )


def until_refused(server: Client, names: list[str], address: str, least: int) -> Answer:
    """Log in until a limit refuses; return that response.

    A slow machine gets some more logins, since points come back meanwhile.
    """
    for number, name in enumerate(names):
        answer = log_in(server, name, address)
        if answer.status == 429:
            assert number >= least
            return answer
    raise AssertionError("no login was refused")


def test_logins_are_limited_by_account_and_address(server: Client) -> None:
    dora = sign_up(server, "dora.a.test", email="dora@example.com")
    # Three names, one account.
    names = [dora.did, "dora.a.test", "dora@example.com"] * 20
    require_refusal(until_refused(server, names, "192.0.2.1", 30), 30, 300)
    assert log_in(server, dora.did, "192.0.2.2").status == 200


def test_logins_are_limited_by_address(server: Client) -> None:
    names = [f"nobody{number}.a.test" for number in range(80)]
    require_refusal(until_refused(server, names, "192.0.2.3", 40), 40, 300)
    assert log_in(server, "other.a.test", "192.0.2.4").status == 401
