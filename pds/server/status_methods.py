"""com.atproto.server: the status of an account, activation and deactivation."""

from __future__ import annotations

from typing import Any, Final

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, utc_now
from pds.exceptions import PdsError
from pds.identity.document_check import DocumentCheck
from pds.repo.repo_heads import get_head
from pds.server import lifecycle
from pds.server.accounts import Account
from pds.server.preferences import read_preferences
from protocol.data.cid import cid_to_text
from storage.postgres.pool import Conn

_NS: Final = "com.atproto.server"

_COUNTS: Final = """
    SELECT (SELECT count(*) FROM block WHERE account = %(account)s),
        (SELECT count(*) FROM record WHERE account = %(account)s),
        (SELECT count(DISTINCT cid) FROM blob_use WHERE account = %(account)s),
        (SELECT count(*) FROM blob b WHERE account = %(account)s AND EXISTS
            (SELECT FROM blob_use u WHERE u.account = b.account AND u.cid = b.cid))
"""


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _StatusMethods(host)
    server.add(f"{_NS}.checkAccountStatus", methods.check_account_status, "required")
    server.add(f"{_NS}.activateAccount", methods.activate_account, "required")
    server.add(f"{_NS}.deactivateAccount", methods.deactivate_account, "required")


class _StatusMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host
        self._documents = DocumentCheck(host)

    async def check_account_status(self, call: Call) -> dict[str, Any]:
        account = login_of(call).account
        status = await self._host.run(self._count, account)
        try:
            await self._documents.require_here(account)
            valid = True
        except PdsError:
            valid = False
        return {"activated": account.active, "validDid": valid} | status

    def _count(self, account: Account) -> dict[str, Any]:
        with self._host.reading() as conn:
            return _count_rows(conn, account)

    async def activate_account(self, call: Call) -> None:
        account = login_of(call).account
        await self._documents.require_here(account)
        await self._host.run(self._activate, account)

    def _activate(self, account: Account) -> None:
        with self._host.pool.connection() as conn:
            lifecycle.activate(conn, account.id, utc_now())

    def deactivate_account(self, call: Call) -> None:
        with self._host.pool.connection() as conn:
            lifecycle.deactivate(conn, login_of(call).account.id, utc_now())


def _count_rows(conn: Conn, account: Account) -> dict[str, Any]:
    head = get_head(conn, account.id)
    row = conn.execute(_COUNTS, {"account": account.id}).fetchone()
    assert row is not None
    blocks, records, expected, imported = row
    return {
        "repoCommit": cid_to_text(head.commit),
        "repoRev": head.rev,
        "repoBlocks": blocks,
        "indexedRecords": records,
        "privateStateValues": len(read_preferences(conn, account.id)),
        "expectedBlobs": expected,
        "importedBlobs": imported,
    }
