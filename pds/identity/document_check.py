"""The check that an account's DID names this server and its keys."""

from __future__ import annotations

from typing import Final

from network.errors import IdentityError, NetworkError
from pds.context import PdsContext
from pds.exceptions import InvalidRequestError
from pds.server.accounts import ROTATION_ROLE, Account, sealed_key
from plc.operation_format import normalize
from protocol.identity.did_document import PDS_SERVICE, SIGNING_KEY
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did, is_plc_did

_SIGNING: Final = SIGNING_KEY.removeprefix("#")
_PDS: Final = PDS_SERVICE.removeprefix("#")


class DocumentCheck:
    """The state of accounts' identities, fetched anew each time."""

    def __init__(self, host: PdsContext) -> None:
        self._host = host

    async def require_here(self, account: Account) -> None:
        """Check server, signing key, and for a did:plc the rotation key.

        Raises InvalidRequestError, or UpstreamFailureError if the directory is away.
        """
        if is_plc_did(account.did):
            state = normalize(
                await self._host.directory.last_operation(Did(account.did))
            )
            rotation = await self._host.run(self.rotation_key, account)
            if rotation.public.did_key not in state.rotation_keys:
                raise InvalidRequestError(
                    "Server rotation key not included in PLC DID data"
                )
            service = state.services.get(_PDS)
            endpoint = None if service is None else service.endpoint
            key = state.verification_methods.get(_SIGNING)
        else:
            try:
                document = await self._host.identity.resolve_did(
                    account.did, refresh=True, insist=1
                )
            except (IdentityError, NetworkError) as error:
                raise InvalidRequestError("Could not resolve DID") from error
            endpoint, key = document.pds, document.signing_key
        if endpoint is None or endpoint.rstrip("/") != self._host.settings.origin:
            raise InvalidRequestError(
                "DID document atproto_pds service endpoint does not match PDS public"
                " url"
            )
        if key != account.signing_did_key:
            raise InvalidRequestError(
                "DID document verification method does not match expected signing key"
            )

    def rotation_key(self, account: Account) -> PrivateKey:
        """Return the key of this server in the account's rotation keys."""
        with self._host.reading() as conn:
            sealed = sealed_key(conn, account.id, ROTATION_ROLE)
        return self._host.vault.open(sealed, did=account.did, role=ROTATION_ROLE)
