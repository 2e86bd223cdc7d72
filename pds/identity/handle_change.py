"""Changes of an account's handle: checked, in its identity, and stored."""

from __future__ import annotations

from psycopg.errors import UniqueViolation

from network.errors import IdentityError, NetworkError
from pds.context import PdsContext, utc_now
from pds.exceptions import HandleNotAvailableError, InvalidHandleError
from pds.identity.document_check import DocumentCheck
from pds.identity.handles import (
    is_local,
    parse_requested_handle,
    require_local,
    require_pointing_at,
)
from pds.server import lifecycle
from pds.server.accounts import Account, find_account
from protocol.syntax import Did, is_plc_did


class HandleChange:
    """The changes of one server."""

    def __init__(self, host: PdsContext) -> None:
        self._host = host
        self._documents = DocumentCheck(host)

    async def apply(
        self, account: Account, text: str, *, any_label: bool = False
    ) -> None:
        """Give an account a handle; `any_label` allows reserved and short names.

        Raises InvalidHandleError, UnsupportedDomainError, HandleNotAvailableError, and
        the errors of the directory.
        """
        host = self._host
        domains = host.settings.domains
        handle = parse_requested_handle(text, dev=host.settings.dev)
        if not is_local(handle, domains):
            await require_pointing_at(host.identity, handle, account.did)
        elif not any_label:
            require_local(handle, domains)
        with host.claim_handle(handle):
            owner = await host.run(self._holder, handle)
            if owner is not None and owner.id != account.id:
                raise HandleNotAvailableError(f"Handle already taken: {handle}")
            # Also if the handle is unchanged: the directory may have missed it.
            await self._change_identity(account, handle)
            await host.run(self._store, account, handle)

    async def _change_identity(self, account: Account, handle: str) -> None:
        host = self._host
        if is_plc_did(account.did):
            signer = await host.run(self._documents.rotation_key, account)
            await host.directory.change_handle(Did(account.did), handle, signer)
            return
        try:
            document = await host.identity.resolve_did(
                account.did, refresh=True, insist=1
            )
        except (IdentityError, NetworkError) as error:
            raise InvalidHandleError("Could not resolve DID") from error
        if handle not in document.handles[:1]:
            raise InvalidHandleError("DID is not properly configured for handle")

    def _holder(self, handle: str) -> Account | None:
        with self._host.reading() as conn:
            return find_account(conn, handle)

    def _store(self, account: Account, handle: str) -> None:
        try:
            with self._host.pool.connection() as conn:
                lifecycle.change_handle(conn, account, handle, utc_now())
        except UniqueViolation as error:
            raise HandleNotAvailableError(f"Handle already taken: {handle}") from error
