"""Codes by mail: confirmation, change of address, password reset, deletion."""

from __future__ import annotations

import smtplib
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, sign_up

from pds.mail import MailSettings
from pds.server.email_tokens import LIFETIME

NS = "com.atproto.server."
NEW_PASSWORD = "another long password"


def session(client: Client) -> Any:
    return client.get(NS + "getSession").json


def log_in(server: Client, identifier: str, password: str) -> Any:
    fields = {"identifier": identifier, "password": password}
    return Client(server.url).post(NS + "createSession", fields)


def confirm(world: World, owner: Client, email: str) -> None:
    assert owner.post(NS + "requestEmailConfirmation").status == 200
    fields = {"email": email, "token": world.mailed_token()}
    assert owner.post(NS + "confirmEmail", fields).status == 200


def test_address_is_confirmed_by_a_mailed_code(world: World, server: Client) -> None:
    owner = sign_up(server, "confirm.a.test", email="Confirm@Example.com")
    assert session(owner)["emailConfirmed"] is False
    assert owner.post(NS + "requestEmailConfirmation").status == 200
    assert "confirm.a.test" in world.newest_mail()
    token = world.mailed_token()
    for fields, error in [
        ({"email": "confirm@example.com", "token": "AAAAA-AAAAA"}, "InvalidToken"),
        ({"email": "other@example.com", "token": token}, "InvalidEmail"),
    ]:
        answer = owner.post(NS + "confirmEmail", fields)
        assert (answer.status, answer.error) == (400, error)
    good = {"email": "CONFIRM@example.com", "token": token.lower()}
    assert owner.post(NS + "confirmEmail", good).status == 200
    assert session(owner)["emailConfirmed"] is True
    assert owner.post(NS + "confirmEmail", good).error == "InvalidToken"


def test_confirmed_address_changes_only_with_a_code(
    world: World, server: Client
) -> None:
    owner = sign_up(server, "change.a.test", email="old@example.com")
    assert owner.post(NS + "requestEmailUpdate").json == {"tokenRequired": False}
    update = NS + "updateEmail"
    assert owner.post(update, {"email": "new@example.com"}).status == 200
    confirm(world, owner, "new@example.com")
    assert owner.post(NS + "requestEmailUpdate").json == {"tokenRequired": True}
    token = world.mailed_token()
    refused = owner.post(update, {"email": "newer@example.com"})
    assert (refused.status, refused.error) == (400, "TokenRequired")
    sign_up(server, "holder.a.test", email="held@example.com")
    for email in ("held@example.com", "no address"):
        answer = owner.post(update, {"email": email, "token": token})
        assert (answer.status, answer.error) == (400, "InvalidRequest")
    fields = {"email": "newer@example.com", "token": token}
    assert owner.post(update, fields).status == 200
    shown = session(owner)
    assert (shown["email"], shown["emailConfirmed"]) == ("newer@example.com", False)


def test_new_password_ends_every_session(world: World, server: Client) -> None:
    owner = sign_up(server, "forgot.a.test", email="forgot@example.com")
    asked = server.post(NS + "requestPasswordReset", {"email": "Forgot@example.com"})
    assert asked.status == 200
    token = world.mailed_token()
    reset = NS + "resetPassword"
    for fields, error in [
        ({"token": token, "password": "short"}, "InvalidPassword"),
        ({"token": "AAAAA-AAAAA", "password": NEW_PASSWORD}, "InvalidToken"),
        ({"token": "a\0b", "password": NEW_PASSWORD}, "InvalidToken"),
    ]:
        answer = server.post(reset, fields)
        assert (answer.status, answer.error) == (400, error)
    fields = {"token": token, "password": NEW_PASSWORD}
    assert server.post(reset, fields).status == 200
    assert owner.get(NS + "getSession").error == "ExpiredToken"
    assert log_in(server, owner.did, PASSWORD).status == 401
    assert log_in(server, owner.did, NEW_PASSWORD).status == 200
    assert server.post(reset, fields).error == "InvalidToken"


def test_reset_does_not_reveal_addresses(world: World, server: Client) -> None:
    sign_up(server, "here.a.test", email="here@example.com")
    replies = []
    for email in ("here@example.com", "nowhere@example.com", "a\0b"):
        answer = server.post(NS + "requestPasswordReset", {"email": email})
        replies.append((answer.status, answer.body))
    assert replies[0] == replies[1] == replies[2]
    assert replies[0][0] == 200


def test_code_of_another_purpose_or_account_is_refused(
    world: World, server: Client
) -> None:
    owner = sign_up(server, "cross.a.test", email="cross@example.com")
    other = sign_up(server, "cross2.a.test", email="cross2@example.com")
    assert owner.post(NS + "requestEmailConfirmation").status == 200
    token = world.mailed_token()
    reset = {"token": token, "password": NEW_PASSWORD}
    assert server.post(NS + "resetPassword", reset).error == "InvalidToken"
    leave = {"did": owner.did, "password": PASSWORD, "token": token}
    assert server.post(NS + "deleteAccount", leave).error == "InvalidToken"
    theirs = {"email": "cross2@example.com", "token": token}
    assert other.post(NS + "confirmEmail", theirs).error == "InvalidToken"


def test_codes_expire(world: World, server: Client) -> None:
    owner = sign_up(server, "late.a.test", email="late@example.com")
    assert owner.post(NS + "requestEmailConfirmation").status == 200
    with world.pool("a").connection() as conn:
        conn.execute(
            "UPDATE email_token SET expires_at = expires_at - %s",
            [LIFETIME + timedelta(seconds=1)],
        )
    fields = {"email": "late@example.com", "token": world.mailed_token()}
    answer = owner.post(NS + "confirmEmail", fields)
    assert (answer.status, answer.error) == (400, "ExpiredToken")


def test_database_holds_no_code(world: World, server: Client) -> None:
    owner = sign_up(server, "hashed.a.test", email="hashed@example.com")
    assert owner.post(NS + "requestEmailConfirmation").status == 200
    token = world.mailed_token()
    with world.pool("a").connection() as conn:
        rows = str(conn.execute("SELECT email_token::text FROM email_token").fetchall())
    assert token not in rows
    assert token.encode().hex() not in rows


def test_mails_to_one_account_are_limited(world: World, server: Client) -> None:
    owner = sign_up(server, "flood.a.test", email="flood@example.com")
    request = NS + "requestEmailConfirmation"
    statuses = [owner.post(request).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]


def test_server_without_mail_says_so(world: World) -> None:
    with world.serve_pds("mute", mail=None) as server:
        owner = sign_up(server, "mute.mute.test", email="mute@example.com")
        for answer in (
            owner.post(NS + "requestEmailConfirmation"),
            owner.post(NS + "requestAccountDelete"),
            server.post(NS + "requestPasswordReset", {"email": "mute@example.com"}),
            owner.post("com.atproto.identity.requestPlcOperationSignature"),
        ):
            assert (answer.status, answer.error) == (400, "InvalidRequest")
        leave = {"did": owner.did, "password": PASSWORD, "token": owner.token}
        assert server.post(NS + "deleteAccount", leave).status == 200


class FakeSmtp:
    """A mail server's client that keeps what it is given."""

    sent: list[Any]

    def __init__(self, host: str, port: int, **_: Any) -> None:
        self.calls: list[Any] = [(host, port)]
        FakeSmtp.sent.append(self)

    def __enter__(self) -> FakeSmtp:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def starttls(self, **_: Any) -> None:
        self.calls.append("starttls")

    def login(self, user: str, password: str) -> None:
        self.calls.append((user, password))

    def send_message(self, message: Any) -> None:
        if "refused" in message["To"]:
            raise smtplib.SMTPRecipientsRefused({})
        self.calls.append((message["From"], message["To"], message.get_content()))


def test_mail_goes_to_the_smtp_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeSmtp.sent = []
    monkeypatch.setattr("pds.mail.smtplib.SMTP", FakeSmtp)
    mail = MailSettings("pds@example.com", "smtp://us%40er:p%3Ass@mail.example.com")
    with world.serve_pds("smtp", mail=mail) as server:
        owner = sign_up(server, "posted.smtp.test", email="posted@example.com")
        assert owner.post(NS + "requestEmailConfirmation").status == 200
        other = sign_up(server, "refused.smtp.test", email="refused@example.com")
        answer = other.post(NS + "requestEmailConfirmation")
        assert (answer.status, answer.error) == (502, "UpstreamFailure")
    host, tls, login, message = FakeSmtp.sent[0].calls
    assert (host, tls) == (("mail.example.com", 587), "starttls")
    assert login == ("us@er", "p:ss")
    assert message[:2] == ("pds@example.com", "posted@example.com")
    assert "posted.smtp.test" in message[2]


def test_smtp_url_is_checked_and_not_shown() -> None:
    with pytest.raises(ValueError, match="smtp_url must be") as error:
        MailSettings("a@example.com", "http://user:secret@mail.example.com")
    assert "secret" not in str(error.value)


def test_mail_files_are_private_and_bounded(
    world: World, server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pds.mail._KEPT_FILES", 2)
    owner = sign_up(server, "filer.a.test", email="files@example.com")
    for _ in range(3):
        assert owner.post(NS + "requestEmailConfirmation").status == 200
    folder: Path = world.mail_folder("a")
    files = list(folder.iterdir())
    assert len(files) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(int(file.name.split("-")[0]) <= time.time_ns() for file in files)
