"""com.atproto.repo.*: records and blobs of the repos on this server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from network.server.admission import client_address
from network.xrpc.server import Call, XrpcServer
from pds.blobs import settle_mime_type, store_blob
from pds.context import PdsContext, login_of, shown_handle, utc_now
from pds.exceptions import (
    InvalidRequestError,
    InvalidSwapError,
    RecordNotFoundError,
    RepoNotFoundError,
    WrongPasswordError,
)
from pds.proxy import ProxyRequest
from pds.repo.record_input import read_record
from pds.repo.record_reads import (
    StoredRecord,
    find_record,
    list_collections,
    page_records,
)
from pds.repo.repo_heads import RepoHead
from pds.repo.repo_writes import Intent, RepoWriter, Swap, Write, Written
from pds.server.accounts import (
    Account,
    find_account,
    require_present,
    require_public,
    require_writable,
)
from protocol.data.cbor import decode
from protocol.data.cid import cid_from_text, cid_to_text
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from protocol.limits import MAX_COMMIT_OPS
from protocol.syntax import normalize_handle
from storage.postgres.crashpoint import Crashpoint, crashpoint

_NS: Final = "com.atproto.repo"
APPLY_WRITES: Final = f"{_NS}.applyWrites"
LIST_RECORDS: Final = f"{_NS}.listRecords"

_CREATE = f"{APPLY_WRITES}#create"
_UPDATE = f"{APPLY_WRITES}#update"
_DELETE = f"{APPLY_WRITES}#delete"


def add_methods(server: XrpcServer, host: PdsContext, writer: RepoWriter) -> None:
    methods = _RepoMethods(host, writer)
    server.add(f"{_NS}.createRecord", methods.create_record, "required")
    server.add(f"{_NS}.putRecord", methods.put_record, "required")
    server.add(f"{_NS}.deleteRecord", methods.delete_record, "required")
    server.add(APPLY_WRITES, methods.apply_writes, "required")
    server.add(f"{_NS}.getRecord", methods.get_record)
    server.add(LIST_RECORDS, methods.list_records)
    server.add(f"{_NS}.describeRepo", methods.describe_repo)
    server.add(
        f"{_NS}.uploadBlob",
        methods.upload_blob,
        "required",
        max_bytes=host.settings.max_blob_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A checked write, and the parts of its result beside the commit."""

    write: Write
    uri: str
    validation: str | None


class _RepoMethods:
    def __init__(self, host: PdsContext, writer: RepoWriter) -> None:
        self._host = host
        self._writer = writer

    def create_record(self, call: Call) -> dict[str, Any]:
        given = call.input
        account = self._own_account(call, given["repo"], [Intent.CREATE])
        prepared = self._prepare(account, Intent.CREATE, given, given["record"])
        written = self._apply(account, [prepared], given.get("swapCommit"))
        return _record_answer(prepared) | {"commit": _commit_meta(written.head)}

    def put_record(self, call: Call) -> dict[str, Any]:
        given = call.input
        account = self._own_account(call, given["repo"], [Intent.PUT])
        prepared = self._prepare(account, Intent.PUT, given, given["record"])
        written = self._apply(account, [prepared], given.get("swapCommit"))
        answer = _record_answer(prepared)
        if written.changed:
            answer["commit"] = _commit_meta(written.head)
        return answer

    def delete_record(self, call: Call) -> dict[str, Any]:
        given = call.input
        account = self._own_account(call, given["repo"], [Intent.ENSURE_ABSENT])
        prepared = self._prepare(account, Intent.ENSURE_ABSENT, given, None)
        written = self._apply(account, [prepared], given.get("swapCommit"))
        return {"commit": _commit_meta(written.head)} if written.changed else {}

    def apply_writes(self, call: Call) -> dict[str, Any]:
        given = call.input
        if len(given["writes"]) > MAX_COMMIT_OPS:
            raise InvalidRequestError(f"Too many writes. Max: {MAX_COMMIT_OPS}")
        intents = [_INTENTS[item["$type"]] for item in given["writes"]]
        account = self._own_account(call, given["repo"], intents)
        validate = given.get("validate")
        prepared = []
        for intent, item in zip(intents, given["writes"], strict=True):
            fields = item | {"validate": validate}
            prepared.append(self._prepare(account, intent, fields, item.get("value")))
        written = self._apply(account, prepared, given.get("swapCommit"))
        answer: dict[str, Any] = {"results": [_batch_answer(p) for p in prepared]}
        if written.changed:
            answer["commit"] = _commit_meta(written.head)
        return answer

    async def get_record(self, call: Call) -> Any:
        params = call.params
        identifier = _identifier(params["repo"])
        account = await self._host.run(self._find_account, identifier)
        if account is None:
            return await self._foreign_record(call)
        return await self._host.run(self._local_record, account, params)

    def list_records(self, call: Call) -> dict[str, Any]:
        params = call.params
        collection = params["collection"]
        scope = f"{LIST_RECORDS} {params['repo']} {collection}"
        after = self._host.open_page(call, scope)
        account = self._public_account(params["repo"])
        with self._host.reading() as conn:
            page = page_records(
                conn,
                account.id,
                collection,
                limit=params["limit"],
                after=after,
                ascending=params.get("reverse", False),
            )
        records = [_shown(account, collection, record) for record in page]
        last = page[-1].rkey if page else None
        return self._host.seal_page(call, scope, {"records": records}, last)

    def describe_repo(self, call: Call) -> dict[str, Any]:
        account = self._public_account(call.params["repo"])
        with self._host.reading() as conn:
            collections = list_collections(conn, account.id)
        return {
            "handle": shown_handle(account),
            "did": account.did,
            "didDoc": self._host.did_document(account),
            "collections": collections,
            # The server assigned or resolved the handle, and wrote it to the document.
            "handleIsCorrect": account.handle is not None,
        }

    def upload_blob(self, call: Call) -> dict[str, Any]:
        account = login_of(call).account
        # A deactivated account uploads what its imported records name.
        require_present(account)
        self._host.limits.upload(call, account.did)
        # An empty blob is legal, as on the reference PDS.
        data: bytes = call.input
        mime_type = settle_mime_type(call.headers.get("content-type"), data)
        with self._host.pool.connection() as conn:
            ref = store_blob(
                conn,
                account.id,
                data,
                mime_type,
                quota=self._host.settings.max_account_blob_bytes,
                now=utc_now(),
            )
        crashpoint(Crashpoint.PDS_UPLOAD_COMMITTED)
        return {
            "blob": {
                "$type": "blob",
                "ref": {"$link": cid_to_text(ref.cid)},
                "mimeType": ref.mime_type,
                "size": ref.size,
            }
        }

    def _own_account(self, call: Call, repo: str, intents: Sequence[Intent]) -> Account:
        """Count these writes; return the account, which may make them."""
        account = login_of(call).account
        if _identifier(repo) not in (account.did, account.handle):
            raise WrongPasswordError("Authentication is for another repo")
        require_writable(account)
        self._host.limits.write(call, account.did, intents)
        return account

    def _find_account(self, identifier: str) -> Account | None:
        with self._host.reading() as conn:
            return find_account(conn, identifier)

    def _public_account(self, repo: str) -> Account:
        identifier = _identifier(repo)
        with self._host.reading() as conn:
            account = find_account(conn, identifier)
            if account is None:
                raise RepoNotFoundError(f"Could not find repo: {repo}")
            return require_public(conn, account.did)

    def _prepare(
        self, account: Account, intent: Intent, given: dict[str, Any], record: Any
    ) -> _Prepared:
        """Check one write, without locks."""
        collection = given["collection"]
        rkey = given.get("rkey")
        if rkey is None:
            rkey = self._host.clock.next()
        path = f"{collection}/{rkey}"
        uri = f"at://{account.did}/{path}"
        swap = None
        if "swapRecord" in given:
            cid = given["swapRecord"]
            swap = Swap(None if cid is None else _swap_cid(cid))
        if intent in (Intent.DELETE, Intent.ENSURE_ABSENT):
            return _Prepared(Write(intent, path, swap=swap), uri, None)
        read = read_record(
            self._host.catalog, collection, rkey, record, given.get("validate")
        )
        write = Write(intent, path, read.value, read.cid, read.blobs, swap)
        return _Prepared(write, uri, read.validation)

    def _apply(
        self, account: Account, prepared: list[_Prepared], swap_commit: str | None
    ) -> Written:
        expected = None if swap_commit is None else _swap_cid(swap_commit)
        with self._host.pool.connection() as conn:
            return self._writer.apply(
                conn,
                account.id,
                [item.write for item in prepared],
                swap_commit=expected,
                now=utc_now(),
            )

    def _local_record(self, account: Account, params: dict[str, Any]) -> dict[str, Any]:
        with self._host.reading() as conn:
            require_public(conn, account.did)
            record = find_record(conn, account.id, params["collection"], params["rkey"])
        wanted = params.get("cid")
        if wanted is not None and wanted != cid_to_text(record.cid):
            raise RecordNotFoundError(
                f"Could not locate record: {params['collection']}/{params['rkey']}"
            )
        return _shown(account, params["collection"], record)

    async def _foreign_record(self, call: Call) -> Any:
        """Return a record of another server from the default indexer,
        unauthenticated."""
        target = self._host.proxy.default
        if target is None:
            raise RepoNotFoundError(f"Could not find repo: {call.params['repo']}")
        query = call.request.scope["query_string"].decode("ascii")
        request = ProxyRequest(
            call.nsid, query, call.headers, None, client_address(call.request.scope)
        )
        return (await self._host.proxy.forward(target, request, token=None)).reply()


_INTENTS: Final = {
    _CREATE: Intent.CREATE,
    _UPDATE: Intent.UPDATE,
    _DELETE: Intent.DELETE,
}


def _identifier(repo: str) -> str:
    """Return a DID unchanged, a handle in lower case."""
    return repo if repo.startswith("did:") else normalize_handle(repo)


def _swap_cid(text: str) -> bytes:
    try:
        return cid_from_text(text)
    except ProtocolError as error:
        # Records and commits here have no CIDs of another form.
        raise InvalidSwapError("not the CID of a record or commit") from error


def _shown(account: Account, collection: str, record: StoredRecord) -> dict[str, Any]:
    return {
        "uri": f"at://{account.did}/{collection}/{record.rkey}",
        "cid": cid_to_text(record.cid),
        "value": to_json(decode(record.value)),
    }


def _record_answer(prepared: _Prepared) -> dict[str, Any]:
    assert prepared.write.cid is not None
    answer = {"uri": prepared.uri, "cid": cid_to_text(prepared.write.cid)}
    if prepared.validation is not None:
        answer["validationStatus"] = prepared.validation
    return answer


def _batch_answer(prepared: _Prepared) -> dict[str, Any]:
    kind = prepared.write.intent.value
    result = {"$type": f"{APPLY_WRITES}#{kind}Result"}
    return result if prepared.write.cid is None else result | _record_answer(prepared)


def _commit_meta(head: RepoHead) -> dict[str, str]:
    return {"cid": cid_to_text(head.commit), "rev": head.rev}
