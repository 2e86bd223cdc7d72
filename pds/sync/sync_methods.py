"""com.atproto.sync.*: public reads of repos and blobs, proofs included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg import IsolationLevel

from network.server.admission import client_key
from network.server.spool import Spool
from network.xrpc.byte_range import parse_range
from network.xrpc.server import Call, Reply, XrpcServer
from pds.admin.hidden_subjects import find_takedown
from pds.blobs import find_blob, list_blobs
from pds.context import PdsContext, is_operator, may_read
from pds.exceptions import BlobNotFoundError, BlockNotFoundError, RepoNotFoundError
from pds.repo.block_rows import (
    BlockReader,
    find_block,
    find_blocks,
    stream_blocks_since,
    stream_records,
)
from pds.repo.repo_heads import get_head
from pds.server.accounts import (
    ACTIVE,
    DELETED,
    Account,
    find_account,
    list_repos,
    require_public,
)
from pds.sync.frames import car
from protocol.data.cid import cid_from_text, cid_to_text
from protocol.errors import ProtocolError
from protocol.mst import Tree
from protocol.repo.car import car_block, car_header
from protocol.repo.repo_export import export_repo
from storage.postgres.pool import Conn

_NS: Final = "com.atproto.sync"
LIST_BLOBS: Final = f"{_NS}.listBlobs"
LIST_REPOS: Final = f"{_NS}.listRepos"

# Owners and the operator read inactive repos, too.
OWNER_METHODS: Final = frozenset(
    {
        LIST_BLOBS,
        *(
            f"{_NS}.{name}"
            for name in [
                "getRepo",
                "getLatestCommit",
                "getRecord",
                "getBlocks",
                "getBlob",
            ]
        ),
    }
)

CAR_TYPE: Final = "application/vnd.ipld.car"
MAX_BLOCKS_ASKED: Final = 500
_PARTIAL: Final = 206


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _SyncMethods(host)
    server.add(f"{_NS}.getRepo", methods.get_repo, "optional")
    server.add(f"{_NS}.getLatestCommit", methods.get_latest_commit, "optional")
    server.add(f"{_NS}.getRepoStatus", methods.get_repo_status)
    server.add(f"{_NS}.getRecord", methods.get_record, "optional")
    server.add(f"{_NS}.getBlocks", methods.get_blocks, "optional")
    server.add(f"{_NS}.getBlob", methods.get_blob, "optional")
    server.add(LIST_BLOBS, methods.list_blobs, "optional")
    server.add(LIST_REPOS, methods.list_repos)


class _SyncMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host

    async def get_repo(self, call: Call) -> Reply:
        def write(spool: Spool) -> None:
            with self._snapshot(call) as (conn, account):
                self._export(conn, account, call.params.get("since"), spool)

        client = client_key(call.request.scope)
        repo = await self._host.spooler.fill(client, write, call.is_client_gone)
        return Reply(repo, content_type=CAR_TYPE)

    def get_latest_commit(self, call: Call) -> dict[str, Any]:
        with self._snapshot(call) as (conn, account):
            head = get_head(conn, account.id)
        return {"cid": cid_to_text(head.commit), "rev": head.rev}

    def get_repo_status(self, call: Call) -> dict[str, Any]:
        did = call.params["did"]
        with self._host.reading() as conn:
            account = find_account(conn, did)
            if account is None:
                raise RepoNotFoundError(f"Could not find repo for DID: {did}")
            if not account.active:
                return {"did": did, "active": False, "status": account.status}
            return {"did": did, "active": True, "rev": get_head(conn, account.id).rev}

    def get_record(self, call: Call) -> Reply:
        """Return a CAR that proves the record or its absence."""
        key = f"{call.params['collection']}/{call.params['rkey']}".encode("ascii")
        with self._snapshot(call) as (conn, account):
            head = get_head(conn, account.id)
            signed = find_block(conn, account.id, head.commit)
            assert signed is not None
            reader = BlockReader(conn, account.id, self._host.nodes)
            tree = Tree(reader.get_node, head.data)
            blocks = {head.commit: signed} | tree.proof_blocks([key])
            cid = tree.get(key)
            if cid is not None:
                value = find_block(conn, account.id, cid)
                assert value is not None
                blocks[cid] = value
        return Reply(car(head.commit, blocks.items()), content_type=CAR_TYPE)

    def get_blocks(self, call: Call) -> Reply:
        asked = call.params["cids"]
        try:
            cids = list(dict.fromkeys(cid_from_text(text) for text in asked))
        except ProtocolError as error:
            raise BlockNotFoundError(str(error)) from error
        if len(cids) > MAX_BLOCKS_ASKED:
            raise BlockNotFoundError(f"at most {MAX_BLOCKS_ASKED} blocks at a time")
        with self._snapshot(call) as (conn, account):
            head = get_head(conn, account.id)
            found = find_blocks(conn, account.id, cids)
        missing = [cid_to_text(cid) for cid in cids if cid not in found]
        if missing:
            raise BlockNotFoundError(f"Could not find cids: {', '.join(missing)}")
        return Reply(
            car(head.commit, ((cid, found[cid]) for cid in cids)), content_type=CAR_TYPE
        )

    def get_blob(self, call: Call) -> Reply:
        try:
            cid = cid_from_text(call.params["cid"])
        except ProtocolError as error:
            raise BlobNotFoundError("Blob not found") from error
        name = cid_to_text(cid)
        with self._snapshot(call) as (conn, account):
            if find_takedown(conn, account.id, name) and not is_operator(call):
                raise BlobNotFoundError("Blob not found")
            blob = find_blob(conn, account.id, cid)
        headers = {
            # A blob must not run as a page of this host.
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f'attachment; filename="{name}"',
            "Accept-Ranges": "bytes",
            "ETag": f'"{name}"',
        }
        body, status = blob.value, 200
        if call.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            span = parse_range(call.headers.get("range"), len(blob.value))
            if span is not None:
                body, status = blob.value[span.start : span.end], _PARTIAL
                headers["Content-Range"] = span.content_range
        return Reply(body, headers, status, content_type=blob.mime_type)

    def list_blobs(self, call: Call) -> dict[str, Any]:
        params = call.params
        scope = f"{LIST_BLOBS} {params['did']} {params.get('since')}"
        text = self._host.open_page(call, scope)
        after = b"" if text is None else cid_from_text(text)
        with self._snapshot(call) as (conn, account):
            cids = list_blobs(
                conn, account.id, params.get("since"), after, params["limit"]
            )
        texts = [cid_to_text(cid) for cid in cids]
        last = texts[-1] if texts else None
        return self._host.seal_page(call, scope, {"cids": texts}, last)

    def list_repos(self, call: Call) -> dict[str, Any]:
        after = self._host.open_page(call, LIST_REPOS) or 0
        with self._host.reading() as conn:
            page = list_repos(conn, after, call.params["limit"])
        repos = []
        for hosted in page:
            line: dict[str, Any] = {
                "did": hosted.did,
                "head": cid_to_text(hosted.commit),
                "rev": hosted.rev,
                "active": hosted.status == ACTIVE,
            }
            if hosted.status != ACTIVE:
                line["status"] = hosted.status
            repos.append(line)
        last = page[-1].id if page else None
        return self._host.seal_page(call, LIST_REPOS, {"repos": repos}, last)

    @contextmanager
    def _snapshot(self, call: Call) -> Iterator[tuple[Conn, Account]]:
        """Yield one consistent view of a repo that the caller may read."""
        with self._host.pool.connection() as conn:
            conn.isolation_level = IsolationLevel.REPEATABLE_READ
            conn.read_only = True
            try:
                with conn.transaction():
                    yield conn, self._readable(conn, call)
            finally:
                conn.isolation_level = None
                conn.read_only = None

    def _readable(self, conn: Conn, call: Call) -> Account:
        did = call.params["did"]
        account = find_account(conn, did)
        if account is not None and account.status != DELETED and may_read(call, did):
            return account
        return require_public(conn, did)

    def _export(
        self, conn: Conn, account: Account, since: str | None, out: Spool
    ) -> None:
        head = get_head(conn, account.id)
        signed = find_block(conn, account.id, head.commit)
        assert signed is not None
        if since is None:
            out.writelines(
                export_repo(signed, lambda: stream_records(conn, account.id))
            )
            return
        out.write(car_header(head.commit))
        out.write(car_block(head.commit, signed))
        out.writelines(
            _others(stream_blocks_since(conn, account.id, since), head.commit)
        )


def _others(blocks: Iterable[tuple[bytes, bytes]], first: bytes) -> Iterator[bytes]:
    for cid, value in blocks:
        if cid != first:
            yield car_block(cid, value)
