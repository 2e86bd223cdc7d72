"""Limits, outages and expired sessions of a server that an account moves to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from service.cli.accounts.moving import remote_account
from service.cli.accounts.moving.remote_account import LimitReachedError, RemoteAccount
from service.cli.feeds.pds_session import RefusedError
from service.operator_errors import ServiceError

IMPORT = "com.atproto.repo.importRepo"
SESSION = "com.atproto.server.createSession"


def refusal(status: int, name: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": name, "message": "m"}, headers=headers)


@dataclass
class Server:
    """Answers in turn, then with success; notes requests, tokens and pauses."""

    answers: list[httpx.Response | Exception] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def send(
        self, method: str, nsid: str, more: Mapping[str, Any], token: str | None
    ) -> httpx.Response:
        self.asked.append((nsid, token))
        if nsid == SESSION:
            return httpx.Response(200, json={"accessJwt": f"token {len(self.asked)}"})
        answer = self.answers.pop(0) if self.answers else httpx.Response(200, json={})
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(RemoteAccount, "_send", lambda _, *asked: made.send(*asked))
    monkeypatch.setattr(remote_account.time, "sleep", made.pauses.append)
    monkeypatch.setattr(remote_account.time, "time", lambda: 2_000_000_000.0)
    return made


@pytest.fixture
def account(server: Server) -> RemoteAccount:
    made = RemoteAccount("http://localhost:1", "did:plc:x", "secret", lambda _: "code")
    made.sign_in()
    return made


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"ratelimit-reset": "2000000030"}, 30.0),
        ({"ratelimit-reset": "1999999000"}, 1.0),
        ({"retry-after": "soon"}, 60.0),
        ({}, 60.0),
    ],
)
def test_limit_is_waited_for(
    server: Server, account: RemoteAccount, headers: dict[str, str], pause: float
) -> None:
    server.answers = [refusal(429, "RateLimitExceeded", **headers)]
    account.call(IMPORT)
    assert server.pauses == [pause]


def test_long_limit_ends_the_command(server: Server, account: RemoteAccount) -> None:
    limit = refusal(429, "RateLimitExceeded", **{"retry-after": "86400"})
    server.answers = [limit]
    with pytest.raises(LimitReachedError, match=r"1440 minutes.*goes on"):
        account.call(IMPORT)
    assert server.pauses == []


def test_expired_session_is_opened_again(
    server: Server, account: RemoteAccount
) -> None:
    server.answers = [refusal(400, "ExpiredToken")]
    account.call(IMPORT)
    assert [nsid for nsid, _ in server.asked] == [SESSION, IMPORT, SESSION, IMPORT]
    assert server.asked[1][1] != server.asked[3][1]


def test_refused_mailed_code_opens_no_session(
    server: Server, account: RemoteAccount
) -> None:
    server.answers = [refusal(400, "InvalidToken")]
    with pytest.raises(RefusedError, match="InvalidToken"):
        account.call("com.atproto.identity.signPlcOperation")
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "outage", [refusal(503, "Unavailable"), httpx.ConnectError("refused")]
)
def test_outage_is_tried_again_five_times(
    server: Server, account: RemoteAccount, outage: httpx.Response | Exception
) -> None:
    server.answers = [outage] * 4
    account.call(IMPORT)
    server.answers = [outage] * 5
    with pytest.raises(ServiceError):
        account.call(IMPORT)
    assert sorted(set(server.pauses)) == [1.0, 2.0, 4.0, 8.0]


def test_other_refusal_is_named_at_once(server: Server, account: RemoteAccount) -> None:
    server.answers = [refusal(400, "InvalidRequest")]
    with pytest.raises(RefusedError, match=r"refused .*InvalidRequest: m"):
        account.call(IMPORT)
    assert server.pauses == []
