"""com.atproto.server.*InviteCode*: codes of the operator and of accounts."""

from __future__ import annotations

from typing import Any, Final

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, utc_now
from pds.exceptions import InvalidRequestError
from pds.server.invites import ADMIN, codes_of, insert_codes, make_code

_NS: Final = "com.atproto.server"
CREATE_INVITE_CODE: Final = f"{_NS}.createInviteCode"
CREATE_INVITE_CODES: Final = f"{_NS}.createInviteCodes"

MAX_NEW_CODES: Final = 1_000
MAX_USES: Final = 2**31 - 1


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _InviteMethods(host)
    server.add(CREATE_INVITE_CODE, methods.create_code, "required")
    server.add(CREATE_INVITE_CODES, methods.create_codes, "required")
    server.add(f"{_NS}.getAccountInviteCodes", methods.get_account_codes, "required")


class _InviteMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host

    def create_code(self, call: Call) -> dict[str, Any]:
        owner = call.input.get("forAccount", ADMIN)
        ((_, codes),) = self._make([owner], 1, call.input["useCount"]).items()
        return {"code": codes[0]}

    def create_codes(self, call: Call) -> dict[str, Any]:
        given = call.input
        owners = list(dict.fromkeys(given.get("forAccounts", [ADMIN])))
        made = self._make(owners, given["codeCount"], given["useCount"])
        codes = [{"account": owner, "codes": texts} for owner, texts in made.items()]
        return {"codes": codes}

    def _make(self, owners: list[str], count: int, uses: int) -> dict[str, list[str]]:
        if not (count > 0 and count * len(owners) <= MAX_NEW_CODES):
            raise InvalidRequestError(f"make 1 to {MAX_NEW_CODES} codes at a time")
        if not 0 < uses <= MAX_USES:
            raise InvalidRequestError(f"useCount must be 1 to {MAX_USES}")
        name = self._host.settings.host
        made = {owner: [make_code(name) for _ in range(count)] for owner in owners}
        pairs = [(code, owner) for owner, codes in made.items() for code in codes]
        with self._host.pool.connection() as conn:
            insert_codes(conn, pairs, uses, utc_now())
        return made

    def get_account_codes(self, call: Call) -> dict[str, Any]:
        """Return the codes that the operator made for the account to give away."""
        did = login_of(call).account.did
        with self._host.reading() as conn:
            codes = codes_of(conn, [did]).get(did, [])
        with_used = call.params["includeUsed"]
        return {
            "codes": [
                code
                for code in codes
                if not code["disabled"]
                and (with_used or len(code["uses"]) < code["available"])
            ]
        }
