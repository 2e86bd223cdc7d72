"""com.atproto.admin.*: accounts shown to and changed by the operator."""

from __future__ import annotations

from typing import Any, Final

from psycopg.errors import UniqueViolation

from network.xrpc.server import Call, XrpcServer
from pds.admin.account_info import (
    find_infos,
    page_accounts,
    search_by_email,
    show_infos,
)
from pds.context import PdsContext, utc_now
from pds.exceptions import InvalidRequestError, NotFoundError
from pds.identity.handle_change import HandleChange
from pds.mail import Mail
from pds.server import lifecycle
from pds.server.accounts import (
    DELETED,
    Account,
    find_account,
    set_email,
    set_password,
)
from pds.server.email_tokens import delete_tokens
from pds.server.passwords import hash_password
from pds.server.sessions import revoke_all
from pds.server.sign_up import check_email, check_new_password
from protocol.syntax import normalize_handle

_NS: Final = "com.atproto.admin"
SEARCH_ACCOUNTS: Final = f"{_NS}.searchAccounts"
_SUBJECT: Final = "Message via your PDS"


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _AccountMethods(host)
    for name, handler in {
        "getAccountInfo": methods.get_info,
        "getAccountInfos": methods.get_infos,
        "searchAccounts": methods.search,
        "updateAccountEmail": methods.update_email,
        "updateAccountHandle": methods.update_handle,
        "updateAccountPassword": methods.update_password,
        "deleteAccount": methods.delete,
        "sendEmail": methods.send_email,
    }.items():
        server.add(f"{_NS}.{name}", handler, "required")


class _AccountMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host
        self._handles = HandleChange(host)

    def get_info(self, call: Call) -> dict[str, Any]:
        with self._host.reading() as conn:
            shown = show_infos(conn, find_infos(conn, [call.params["did"]]))
        if not shown:
            raise NotFoundError("Account not found")
        return shown[0]

    def get_infos(self, call: Call) -> dict[str, Any]:
        with self._host.reading() as conn:
            return {"infos": show_infos(conn, find_infos(conn, call.params["dids"]))}

    def search(self, call: Call) -> dict[str, Any]:
        """Return accounts by the start of their address, or all of them."""
        start = call.params.get("email", "").lower()
        scope = f"{SEARCH_ACCOUNTS} {start}"
        after, limit = self._host.open_page(call, scope), call.params["limit"]
        with self._host.reading() as conn:
            if start:
                page = search_by_email(conn, start, after or "", limit)
                last: Any = page[-1].email if page else None
            else:
                page = page_accounts(conn, after or 0, limit)
                last = page[-1].id if page else None
            shown = show_infos(conn, page)
        return self._host.seal_page(call, scope, {"accounts": shown}, last)

    def update_email(self, call: Call) -> None:
        email = check_email(call.input["email"])
        assert email is not None
        try:
            with self._host.pool.connection() as conn:
                account = self._find(call.input["account"])
                set_email(conn, account.id, email)
                delete_tokens(conn, account.id)
        except UniqueViolation as error:
            raise InvalidRequestError(f"Email already taken: {email}") from error

    async def update_handle(self, call: Call) -> None:
        """Set a handle; the operator may give out reserved and short ones."""
        account = await self._host.run(self._find, call.input["did"])
        await self._handles.apply(account, call.input["handle"], any_label=True)

    async def update_password(self, call: Call) -> None:
        """Set a password; all sessions of the account end."""
        host = self._host
        password = check_new_password(call.input["password"])
        account = await host.run(self._find, call.input["did"])
        hashed = await host.hashing.run(hash_password, password)
        await host.run(self._set_password, account, hashed)

    def _set_password(self, account: Account, hashed: str) -> None:
        with self._host.pool.connection() as conn:
            set_password(conn, account.id, hashed)
            delete_tokens(conn, account.id)
            revoke_all(conn, account.id, utc_now())

    def delete(self, call: Call) -> None:
        account = self._find(call.input["did"])
        with self._host.pool.connection() as conn:
            lifecycle.delete(conn, account, utc_now())
        self._host.keys.forget(account)

    async def send_email(self, call: Call) -> dict[str, Any]:
        host, given = self._host, call.input
        account = await host.run(self._find, given["recipientDid"])
        if account.email is None:
            raise InvalidRequestError("account does not have an email address")
        subject = given.get("subject", _SUBJECT)
        await host.mailer.send(Mail(account.email, subject, given["content"]))
        return {"sent": True}

    def _find(self, identifier: str) -> Account:
        """Return an account by DID or handle. Raises InvalidRequestError."""
        if not identifier.startswith("did:"):
            identifier = normalize_handle(identifier)
        with self._host.reading() as conn:
            account = find_account(conn, identifier)
        if account is None or account.status == DELETED:
            raise InvalidRequestError(f"Account does not exist: {identifier}")
        return account
