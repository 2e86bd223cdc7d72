"""com.atproto.admin.*Invite*: invite codes listed and disabled by the operator."""

from __future__ import annotations

from typing import Any, Final

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext
from pds.exceptions import InvalidRequestError
from pds.server.accounts import set_invites_disabled
from pds.server.invites import ADMIN, disable_codes, page_codes

_NS: Final = "com.atproto.admin"
GET_INVITE_CODES: Final = f"{_NS}.getInviteCodes"
_SORTS: Final = ("recent", "usage")


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    def get_codes(call: Call) -> dict[str, Any]:
        sort = call.params["sort"]
        if sort not in _SORTS:
            raise InvalidRequestError(f"unknown sort method: {sort[:80]}")
        scope = f"{GET_INVITE_CODES} {sort}"
        after = host.open_page(call, scope)
        with host.reading() as conn:
            codes, last = page_codes(
                conn, by_use=sort == "usage", after=after, limit=call.params["limit"]
            )
        return host.seal_page(call, scope, {"codes": codes}, last)

    def disable(call: Call) -> None:
        codes, accounts = call.input.get("codes", []), call.input.get("accounts", [])
        if ADMIN in accounts:
            raise InvalidRequestError("cannot disable admin invite codes")
        if any("\0" in text for text in (*codes, *accounts)):
            raise InvalidRequestError("codes and accounts have no NUL")
        with host.pool.connection() as conn:
            disable_codes(conn, codes, accounts)

    def switch(disabled: bool, call: Call) -> None:
        with host.pool.connection() as conn:
            set_invites_disabled(conn, call.input["account"], disabled)

    server.add(GET_INVITE_CODES, get_codes, "required")
    server.add(f"{_NS}.disableInviteCodes", disable, "required")
    server.add(
        f"{_NS}.disableAccountInvites", lambda call: switch(True, call), "required"
    )
    server.add(
        f"{_NS}.enableAccountInvites", lambda call: switch(False, call), "required"
    )
