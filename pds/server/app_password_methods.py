"""com.atproto.server.*AppPassword*: passwords for apps."""

from __future__ import annotations

from typing import Any, Final

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, utc_now
from pds.server.app_passwords import delete_app_password, list_app_passwords
from pds.server.sessions import revoke_app

_NS: Final = "com.atproto.server"


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _AppPasswordMethods(host)
    server.add(f"{_NS}.createAppPassword", methods.create, "required")
    server.add(f"{_NS}.listAppPasswords", methods.list, "required")
    server.add(f"{_NS}.revokeAppPassword", methods.revoke, "required")


class _AppPasswordMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host

    def create(self, call: Call) -> dict[str, Any]:
        account = login_of(call).account
        with self._host.pool.connection() as conn:
            made, password = self._host.app_passwords.create(
                conn,
                account.id,
                call.input["name"],
                privileged=call.input.get("privileged", False),
                now=utc_now(),
            )
        return made.to_json() | {"password": password}

    def list(self, call: Call) -> dict[str, Any]:
        with self._host.reading() as conn:
            found = list_app_passwords(conn, login_of(call).account.id)
        return {"passwords": [item.to_json() for item in found]}

    def revoke(self, call: Call) -> None:
        """Delete an app password, and end its sessions."""
        account, name = login_of(call).account.id, call.input["name"]
        if "\0" in name:
            return
        with self._host.pool.connection() as conn:
            delete_app_password(conn, account, name)
            revoke_app(conn, account, name, utc_now())
