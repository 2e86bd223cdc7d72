"""com.atproto.sync.getBlocks: the commit, tree nodes and records of a repo by CID."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from appview.app import AppView
from appview.session import RequestContext, context_of
from mirror.repo_methods import find_repo
from mirror.sync_methods import CAR, LONG_TIMEOUT, TREES, iter_keys
from network.server.admission import client_key
from network.server.spool import Spool
from network.xrpc.server import Call, Reply, XrpcError
from protocol.data.cid import cid_for, cid_from_text, cid_to_text
from protocol.errors import InvalidEncodingError, MissingBlockError
from protocol.mst import parse_node
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import parse_commit
from storage.records.addresses import find_addresses
from storage.records.record_rows import fetch_pieces

MAX_BLOCKS: Final = 500
"""Maximum number of blocks of a request."""
_CHECK_EVERY: Final = 1_000


async def get_blocks(app: AppView, call: Call) -> Reply:
    """Return the blocks as a CAR, the commit first, then nodes, then records."""
    cids = _read_cids(call.params["cids"])
    reader = _BlockReader(context_of(app, call), call.params["did"])
    client = client_key(call.request.scope)
    return Reply(
        await app.spooler.fill(
            client, lambda spool: reader.write(cids, spool), call.is_client_gone
        ),
        content_type=CAR,
    )


class _BlockReader:
    """The blocks of one repo, written into a spool."""

    def __init__(self, context: RequestContext, did: str) -> None:
        self._context = context
        self._did = did

    def write(self, cids: set[bytes], spool: Spool) -> None:
        """Write the blocks. Raises XrpcError if one of them is missing."""
        left = set(cids)
        with self._context.session() as session:
            session.conn.execute(LONG_TIMEOUT)
            actor, _, commit = find_repo(session, self._did)
            root = cid_for(commit)
            spool.write(car_header(root))
            if root in left:
                left.remove(root)
                spool.write(car_block(root, commit))
            if not left:
                return
            try:
                nodes = TREES.nodes(
                    parse_commit(commit).data,
                    lambda: iter_keys(self._context, session, actor),
                )
            except MissingBlockError as error:
                raise XrpcError(
                    "RepoNotFound", f"the repo is incomplete here: {error}"
                ) from error
            for cid in sorted(left & nodes.keys()):
                left.remove(cid)
                spool.write(car_block(cid, nodes[cid]))
            addresses = find_addresses(session.conn, self._find_uris(nodes, left))
            for _, records in fetch_pieces(session.conn, [*addresses.values()]):
                for value in records.values():
                    cid = cid_for(value)
                    left.remove(cid)
                    spool.write(car_block(cid, value))
        if left:
            missing = ", ".join(cid_to_text(cid) for cid in sorted(left))
            raise XrpcError("BlockNotFound", f"Could not find cids: {missing}")

    def _find_uris(
        self, nodes: Mapping[bytes, bytes], cids: set[bytes]
    ) -> Sequence[str]:
        """Return the AT-URI of one record for each CID that the tree has."""
        uris: dict[bytes, str] = {}
        for number, node in enumerate(nodes.values() if cids else ()):
            if number % _CHECK_EVERY == 0:
                self._context.check_client()
            keys, values, _ = parse_node(node)
            for key, cid in zip(keys, values, strict=True):
                if cid in cids:
                    uris[cid] = f"at://{self._did}/{key.decode('ascii', 'replace')}"
        return [*uris.values()]


def _read_cids(texts: list[str]) -> set[bytes]:
    if len(texts) > MAX_BLOCKS:
        raise XrpcError("InvalidRequest", f"at most {MAX_BLOCKS} blocks at a time")
    try:
        return {cid_from_text(text) for text in texts}
    except InvalidEncodingError as error:
        raise XrpcError("BlockNotFound", f"no such block: {error}") from error


METHODS: dict[str, Any] = {"com.atproto.sync.getBlocks": get_blocks}
