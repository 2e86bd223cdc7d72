"""com.atproto.server.*: what a mailed code proves.

An address is confirmed or changed, a password reset, an account deleted.
"""

from __future__ import annotations

from typing import Any, Final

from psycopg.errors import UniqueViolation

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, shown_handle, utc_now
from pds.exceptions import InvalidEmailError, InvalidRequestError, TokenRequiredError
from pds.mail import Mail
from pds.server.accounts import (
    Account,
    confirm_email,
    find_by_email,
    set_email,
    set_password,
)
from pds.server.email_tokens import (
    CONFIRM_EMAIL,
    DELETE_ACCOUNT,
    RESET,
    UPDATE_EMAIL,
    delete_tokens,
)
from pds.server.passwords import hash_password
from pds.server.sessions import revoke_all
from pds.server.sign_up import check_email, check_new_password

_NS: Final = "com.atproto.server"

_TEXT: Final = """\
{request} of your account {handle}. The code is:

    {token}

It is valid for 15 minutes. If you did not ask for this, do nothing.
"""

# Purpose -> subject and first words of its mail.
_WORDS: Final = {
    CONFIRM_EMAIL: ("Confirm your email address", "Confirm the email address"),
    UPDATE_EMAIL: ("A change of your email address", "Change the email address"),
    RESET: ("A new password", "Set a new password"),
    DELETE_ACCOUNT: ("The deletion of your account", "Confirm the deletion"),
}


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _EmailMethods(host)
    for name, handler in {
        "requestEmailConfirmation": methods.request_confirmation,
        "confirmEmail": methods.confirm,
        "requestEmailUpdate": methods.request_update,
        "updateEmail": methods.update,
        "requestAccountDelete": methods.request_deletion,
    }.items():
        server.add(f"{_NS}.{name}", handler, "required")
    server.add(f"{_NS}.requestPasswordReset", methods.request_reset)
    server.add(f"{_NS}.resetPassword", methods.reset_password)


class _EmailMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host

    async def request_confirmation(self, call: Call) -> None:
        await self._send_own(call, CONFIRM_EMAIL)

    async def request_deletion(self, call: Call) -> None:
        await self._send_own(call, DELETE_ACCOUNT)

    async def request_update(self, call: Call) -> dict[str, Any]:
        """Mail a code to a confirmed address; another one changes without."""
        account = login_of(call).account
        if account.email is None:
            raise InvalidRequestError("account does not have an email address")
        if account.email_confirmed:
            await self._send_own(call, UPDATE_EMAIL)
        return {"tokenRequired": account.email_confirmed}

    async def _send_own(self, call: Call, purpose: str) -> None:
        account = login_of(call).account
        self._host.mailer.require()
        if account.email is None:
            raise InvalidRequestError("account does not have an email address")
        self._host.limits.mail(call, account.did)
        await self._send(account, purpose)

    async def _send(self, account: Account, purpose: str) -> None:
        token = await self._host.run(self._issue, account, purpose)
        subject, request = _WORDS[purpose]
        text = _TEXT.format(request=request, handle=shown_handle(account), token=token)
        assert account.email is not None
        await self._host.mailer.send(Mail(account.email, subject, text))

    def _issue(self, account: Account, purpose: str) -> str:
        with self._host.pool.connection() as conn:
            return self._host.email_tokens.issue(conn, account.id, purpose, utc_now())

    def confirm(self, call: Call) -> None:
        account = login_of(call).account
        if account.email != call.input["email"].lower():
            raise InvalidEmailError("invalid email")
        now = utc_now()
        with self._host.pool.connection() as conn:
            self._host.email_tokens.use(
                conn, account.id, CONFIRM_EMAIL, call.input["token"], now
            )
            confirm_email(conn, account, now)

    def update(self, call: Call) -> None:
        account, token = login_of(call).account, call.input.get("token")
        email = check_email(call.input["email"])
        assert email is not None
        self._host.limits.update_email(call, account.did)
        if token is None and account.email_confirmed:
            raise TokenRequiredError("confirmation token required")
        try:
            with self._host.pool.connection() as conn:
                if token is not None:
                    self._host.email_tokens.use(
                        conn, account.id, UPDATE_EMAIL, token, utc_now()
                    )
                set_email(conn, account.id, email)
                # Codes in the old mailbox prove nothing any more.
                delete_tokens(conn, account.id)
        except UniqueViolation as error:
            raise InvalidRequestError(f"Email already taken: {email}") from error

    async def request_reset(self, call: Call) -> None:
        """Mail a code to the owner of an address.

        Unlike on the reference PDS, an unknown address gets the same response.
        """
        self._host.limits.request_reset(call)
        self._host.mailer.require()
        account = await self._host.run(self._owner, call.input["email"].lower())
        if account is not None:
            self._host.limits.mail(call, account.did)
            await self._send(account, RESET)

    def _owner(self, email: str) -> Account | None:
        if "\0" in email:
            return None
        with self._host.reading() as conn:
            return find_by_email(conn, email)

    async def reset_password(self, call: Call) -> None:
        """Set a new password; all sessions end."""
        host, token = self._host, call.input["token"]
        host.limits.reset_password(call)
        password = check_new_password(call.input["password"])
        # Before the hash, which is expensive.
        await host.run(self._check_reset, token)
        hashed = await host.hashing.run(hash_password, password)
        await host.run(self._reset, token, hashed)

    def _check_reset(self, token: str) -> None:
        with self._host.reading() as conn:
            self._host.email_tokens.find_account(conn, RESET, token, utc_now())

    def _reset(self, token: str, hashed: str) -> None:
        now = utc_now()
        with self._host.pool.connection() as conn:
            tokens = self._host.email_tokens
            account = tokens.find_account(conn, RESET, token, now)
            tokens.use(conn, account, RESET, token, now)
            set_password(conn, account, hashed)
            revoke_all(conn, account, now)
