"""Invite codes over HTTP: made by the operator, used up by sign-ups."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from pds_world import PASSWORD, Client, sign_up

CREATE_ACCOUNT = "com.atproto.server.createAccount"
CREATE_CODE = "com.atproto.server.createInviteCode"
CREATE_CODES = "com.atproto.server.createInviteCodes"
ACCOUNT_CODES = "com.atproto.server.getAccountInviteCodes"

SERVER = {"invite_code": "open-sesame"}


def test_only_the_operator_makes_codes(server: Client) -> None:
    account = sign_up(server, "norman.a.test", inviteCode="open-sesame")
    wrong = {"Authorization": "Basic YWRtaW46d3Jvbmc="}
    for answer in (
        server.post(CREATE_CODE, {"useCount": 1}),
        account.post(CREATE_CODE, {"useCount": 1}),
        server.post(CREATE_CODE, {"useCount": 1}, headers=wrong),
        server.post(CREATE_CODE, {"useCount": 1}, headers={"Authorization": "Basic"}),
    ):
        assert (answer.status, answer.error) == (401, "AuthenticationRequired")


def test_code_is_used_as_often_as_it_allows(server: Client) -> None:
    code = server.operate(CREATE_CODE, {"useCount": 2}).json["code"]
    assert code.startswith("localhost-")

    def attempt(number: int) -> tuple[int, str | None]:
        answer = server.post(
            CREATE_ACCOUNT,
            {
                "handle": f"guest{number}.a.test",
                "password": PASSWORD,
                "inviteCode": code,
            },
        )
        return answer.status, answer.error

    with ThreadPoolExecutor(5) as threads:
        results = sorted(threads.map(attempt, range(5)), key=str)
    assert results == [(200, None)] * 2 + [(400, "InvalidInviteCode")] * 3


@pytest.mark.parametrize("code", ["open", "\u00f6", "a\0b", ""])
def test_unknown_code_is_refused(server: Client, code: str) -> None:
    fields = {"handle": "carol.a.test", "password": PASSWORD, "inviteCode": code}
    answer = server.post(CREATE_ACCOUNT, fields)
    assert (answer.status, answer.error) == (400, "InvalidInviteCode")


def test_account_gives_its_codes_away(server: Client) -> None:
    host = sign_up(server, "hostess.a.test", inviteCode="open-sesame")
    made = server.operate(
        CREATE_CODES, {"codeCount": 2, "useCount": 1, "forAccounts": [host.did]}
    ).json["codes"]
    assert [line["account"] for line in made] == [host.did]
    codes = host.get(ACCOUNT_CODES).json["codes"]
    assert {code["code"] for code in codes} == set(made[0]["codes"])
    guest = sign_up(server, "visitor.a.test", inviteCode=codes[0]["code"])
    kept = host.get(ACCOUNT_CODES, includeUsed="false").json["codes"]
    assert [code["code"] for code in kept] == [codes[1]["code"]]
    used = {c["code"]: c for c in host.get(ACCOUNT_CODES).json["codes"]}
    (use,) = used[codes[0]["code"]]["uses"]
    assert use["usedBy"] == guest.did
    assert guest.get(ACCOUNT_CODES).json == {"codes": []}
    assert server.get(ACCOUNT_CODES).status == 401


@pytest.mark.parametrize(
    "body", [{"codeCount": 0, "useCount": 1}, {"codeCount": 9_999, "useCount": 1}]
)
def test_number_of_codes_is_bounded(server: Client, body: dict[str, int]) -> None:
    answer = server.operate(CREATE_CODES, body)
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    assert server.operate(CREATE_CODE, {"useCount": 0}).status == 400
