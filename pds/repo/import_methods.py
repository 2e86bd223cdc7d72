"""com.atproto.repo: whole repos and blobs of accounts that move here."""

from __future__ import annotations

from typing import Any, Final

from network.errors import IdentityError, NetworkError
from network.server.admission import client_key, resting
from network.server.spool import SpoolReader
from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, utc_now
from pds.exceptions import UpstreamFailureError
from pds.repo.repo_import import ImportSource, RepoImporter, list_missing_blobs
from pds.server.accounts import Account, require_present
from pds.work_queue import WorkQueue
from protocol.data.cid import cid_from_text, cid_to_text
from protocol.syntax import Did, is_plc_did
from storage.postgres.crashpoint import Crashpoint, crashpoint

_NS: Final = "com.atproto.repo"
LIST_MISSING_BLOBS: Final = f"{_NS}.listMissingBlobs"

_AT_ONCE: Final = 2
_MAX_WAITING: Final = 8


def add_methods(server: XrpcServer, host: PdsContext, importer: RepoImporter) -> None:
    methods = _ImportMethods(host, importer)
    server.add(
        f"{_NS}.importRepo",
        methods.import_repo,
        "required",
        max_bytes=host.settings.max_import_bytes,
        streamed=True,
    )
    server.add(LIST_MISSING_BLOBS, methods.list_missing_blobs, "required")


class _ImportMethods:
    def __init__(self, host: PdsContext, importer: RepoImporter) -> None:
        self._host = host
        self._importer = importer
        self._imports = WorkQueue(
            _AT_ONCE, _MAX_WAITING, "too many repos are being imported"
        )

    async def import_repo(self, call: Call) -> None:
        account = login_of(call).account
        require_present(account)
        self._host.limits.import_repo(call, account.did)
        scope = call.request.scope
        async with resting(scope):
            keys = await self._signing_keys(account)
            # On disk, so that a slow sender holds neither a thread nor a connection.
            body = await self._host.spooler.collect(client_key(scope), call.input)
        try:
            await self._imports.run(self._import, account, keys, body)
        finally:
            await body.aclose()

    async def _signing_keys(self, account: Account) -> frozenset[str]:
        """Return every did:key that may have signed the account's repo."""
        host = self._host
        if is_plc_did(account.did):
            keys = await host.directory.past_signing_keys(Did(account.did))
        else:
            try:
                document = await host.identity.resolve_did(account.did, refresh=True)
            except (IdentityError, NetworkError) as error:
                raise UpstreamFailureError(f"could not resolve DID: {error}") from error
            keys = {document.signing_key} if document.signing_key else set()
        return frozenset(keys | {account.signing_did_key})

    def _import(
        self, account: Account, keys: frozenset[str], body: SpoolReader
    ) -> None:
        source = ImportSource(body.pieces(), keys)
        with self._host.pool.connection() as conn:
            self._importer.run(conn, account.id, source, utc_now())
        crashpoint(Crashpoint.PDS_IMPORT_COMMITTED)

    def list_missing_blobs(self, call: Call) -> dict[str, Any]:
        host = self._host
        account = login_of(call).account
        scope = f"{LIST_MISSING_BLOBS} {account.did}"
        text = host.open_page(call, scope)
        after = b"" if text is None else cid_from_text(text)
        with host.reading() as conn:
            page = list_missing_blobs(conn, account.id, after, call.params["limit"])
        blobs = [blob.to_json(account.did) for blob in page]
        last = cid_to_text(page[-1].cid) if page else None
        return host.seal_page(call, scope, {"blobs": blobs}, last)
