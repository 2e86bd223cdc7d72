"""com.atproto.sync.getRepo and getRecord from our rows, byte for byte.

The signed commit is kept and the tree follows from the records: clients check the
account's signature and need not trust this index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from appview.app import AppView
from appview.session import RequestContext, Session, context_of
from mirror.proof_trees import ProofTrees
from mirror.repo_methods import find_repo
from network.server.admission import client_key
from network.server.spool import Spool
from network.xrpc.server import Call, Reply, XrpcError
from protocol.data.cid import cid_for
from protocol.errors import MissingBlockError
from protocol.mst import parse_node
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import parse_commit
from storage.records.addresses import find_addresses
from storage.records.record_rows import fetch_records, iter_repo

CAR = "application/vnd.ipld.car"
LONG_TIMEOUT = "SET LOCAL statement_timeout = '10min'"
"""Timeout of reads of a whole repo."""

_CHECK_EVERY: Final = 1_000


async def get_repo(app: AppView, call: Call) -> Reply:
    """Return the repo as a CAR.

    `since` at the held revision gives the commit alone. An older one gives everything,
    as the lexicon allows: rows do not tell their revisions.
    """

    def write(spool: Spool) -> None:
        with context_of(app, call).session() as session:
            actor, rev, commit = find_repo(session, call.params["did"])
            if call.params.get("since", "") >= rev:
                spool.writelines(_car(commit, ()))
                return
            session.conn.execute(LONG_TIMEOUT)
            try:
                with app.export_repo(session.conn, actor) as car:
                    spool.writelines(car)
            except MissingBlockError as error:
                raise XrpcError(
                    "RepoNotFound", f"the repo is incomplete here: {error}"
                ) from error

    client = client_key(call.request.scope)
    return Reply(
        await app.spooler.fill(client, write, call.is_client_gone), content_type=CAR
    )


def get_record(app: AppView, call: Call) -> Reply:
    """Return the commit, the nodes that prove a record or its absence, and the
    record."""
    params = call.params
    car = prove_record(
        context_of(app, call), params["did"], params["collection"], params["rkey"]
    )
    return Reply(car, content_type=CAR)


def prove_record(
    context: RequestContext, did: str, collection: str, rkey: str
) -> bytes:
    """Return the proof of a record or of its absence as a CAR. Raises XrpcError."""
    uri = f"at://{did}/{collection}/{rkey}"
    with context.session() as session:
        session.conn.execute(LONG_TIMEOUT)
        actor, _, commit = find_repo(session, did)
        address = find_addresses(session.conn, [uri]).get(uri)
        value = fetch_records(session.conn, [address]).get(address) if address else None
        path = f"{collection}/{rkey}".encode()
        try:
            proof = TREES.prove(
                parse_commit(commit).data,
                path,
                lambda: iter_keys(context, session, actor),
            )
        except MissingBlockError as error:
            raise XrpcError(
                "RepoNotFound", f"the repo is incomplete here: {error}"
            ) from error
    if value is not None:
        proof.append((cid_for(value), value))
    elif path in parse_node(proof[-1][1])[0]:
        # Signed, but the bytes were not kept.
        raise XrpcError("RecordNotFound", f"Could not locate record: {uri}", 400)
    return b"".join(_car(commit, proof))


def iter_keys(
    context: RequestContext, session: Session, actor: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and CID of all records while the client is connected."""
    for number, item in enumerate(iter_repo(session.conn, actor)):
        if number % _CHECK_EVERY == 0:
            context.check_client()
        yield item[:2]


def _car(commit: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    root = cid_for(commit)
    yield car_header(root)
    yield car_block(root, commit)
    for cid, block in blocks:
        yield car_block(cid, block)


TREES: Final = ProofTrees()
"""The trees of this process."""

METHODS: dict[str, Any] = {
    "com.atproto.sync.getRepo": get_repo,
    "com.atproto.sync.getCheckout": get_repo,
    "com.atproto.sync.getRecord": get_record,
}
