"""com.atproto.sync.listBlobs and getBlob: blobs of the accounts that are held.

Blobs are not stored: the list follows from the records, and a blob is fetched from its
account's host.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from appview.app import AppView
from appview.paging import Cursors
from appview.pipeline import Handler, Params
from appview.session import Session, context_of
from appview.views.blob_url import GET_BLOB
from mirror.repo_methods import find_repo, find_repo_host
from network.server.admission import client_key, resting
from network.xrpc.server import Call, Reply, XrpcError, XrpcServer
from protocol.data import cbor
from protocol.data.blob import blob_cid
from protocol.data.cid import BLOB_PREFIX, cid_from_text, cid_to_text
from protocol.errors import InvalidEncodingError
from storage.collections import (
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_REPOST,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
)
from storage.records.record_rows import read_page

_WITHOUT_BLOBS: Final = [
    COLLECTION_IDS[nsid] for nsid in (FEED_LIKE, FEED_REPOST, GRAPH_BLOCK, GRAPH_FOLLOW)
]
_START: Final = [-(2**31), -(2**63), 0]
_PAGES: Final = 4
"""Pages of records, of up to 2 MB each, that are read for one page of blobs."""
_HEADERS: Final = {
    # A blob must not run as a page of this host.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    # Short, so that takedowns reach the caches of readers.
    "Cache-Control": "public, max-age=3600",
}
_NOT_MODIFIED: Final = 304


def list_blobs(session: Session, params: Params) -> dict[str, Any]:
    """Answer com.atproto.sync.listBlobs: the blobs that records name, in their order.

    A blob of several records may be on several pages. `since` at the held revision
    gives none. An older one gives all: rows do not tell their revisions.
    """
    actor, rev, _ = find_repo(session, params["did"])
    cursors = Cursors(session.context, params)
    collection, rkey, skipped = cursors.open() or _START
    limit = params["limit"]
    if params.get("since", "") >= rev:
        return {"cids": []}
    cids: dict[bytes, None] = {}
    for _ in range(_PAGES):
        page = read_page(
            session.conn, actor, after=(collection, rkey), outside=_WITHOUT_BLOBS
        )
        for record in page.records:
            blobs = [*dict.fromkeys(_find_blobs(cbor.decode(record[2])))]
            for number, cid in enumerate(blobs[skipped:], skipped):
                if len(cids) == limit and cid not in cids:
                    more = [collection, rkey, number]
                    return {"cids": _texts(cids), **cursors.seal(more)}
                cids[cid] = None
            collection, rkey, skipped = record[0], record[1], 0
        if page.last:
            return {"cids": _texts(cids)}
        session.context.check_client()
    return {"cids": _texts(cids), **cursors.seal([collection, rkey, 0])}


def _texts(cids: dict[bytes, None]) -> list[str]:
    return [cid_to_text(cid) for cid in cids]


def _find_blobs(value: cbor.Value) -> Iterator[bytes]:
    """Yield the CIDs of all blob references inside a record."""
    if isinstance(value, list):
        for item in value:
            yield from _find_blobs(item)
    elif isinstance(value, dict):
        # A legacy reference is {cid, mimeType}; a strongRef has a `cid`, too.
        if value.get("$type") == "blob" or value.keys() == {"cid", "mimeType"}:
            cid = blob_cid(value)
            if cid is not None and cid.startswith(BLOB_PREFIX):
                yield cid
            return
        for item in value.values():
            yield from _find_blobs(item)


def serve_blobs(app: AppView, server: XrpcServer) -> Handler:
    """Return the handler of com.atproto.sync.getBlob."""

    def find_host(cid: bytes, call: Call) -> str:
        did = call.params["did"]
        with context_of(app, call).session() as session:
            if session.taken_down.has_blob(did, cid):
                raise _not_found()
            return find_repo_host(session, did)

    async def get_blob(call: Call) -> Reply:
        did, text = call.params["did"], call.params["cid"]
        cid = _read_cid(text)
        host = await server.run_handler(partial(find_host, cid), call)
        headers = _HEADERS | {
            "ETag": f'"{text}"',
            "Content-Disposition": f'attachment; filename="{text}"',
        }
        if call.headers.get("if-none-match") == headers["ETag"]:
            return Reply(b"", headers, _NOT_MODIFIED)
        url = f"{host}/xrpc/{GET_BLOB}?did={quote(did, safe=':')}&cid={text}"
        client = client_key(call.request.scope)
        async with resting(call.request.scope):
            blob = await app.network.fetch_blob(client, url, cid, call.is_client_gone)
        return Reply(blob.body, headers, content_type=blob.media_type)

    return get_blob


def _read_cid(text: str) -> bytes:
    try:
        cid = cid_from_text(text)
    except InvalidEncodingError as error:
        raise _not_found() from error
    if not cid.startswith(BLOB_PREFIX):
        raise _not_found()
    return cid


def _not_found() -> XrpcError:
    return XrpcError("BlobNotFound", "Blob not found", 400)
