"""The proof of one record: its commit, the nodes down to it, and its bytes.

com.atproto.sync.getRecord serves it as a CAR. Nothing else from the server is needed to
know that the account signed the record, or that the signed repo lacks it.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.data.cid import cid_for
from protocol.errors import MissingBlockError
from protocol.identity.keys import PublicKey
from protocol.mst import Tree
from protocol.repo.car import read_car
from protocol.repo.commit import open_head
from protocol.syntax.did import Did
from protocol.syntax.tid import Tid


@dataclass(frozen=True, slots=True)
class RecordProof:
    """A verified proof; without `cid` the repo at `rev` does not hold the record."""

    commit: bytes
    rev: Tid
    nodes: int
    cid: bytes | None
    value: bytes | None


def verify_record_proof(
    car: bytes, did: Did, path: str, key: PublicKey, now_us: int
) -> RecordProof:
    """Verify that `did`, whose signing key is `key`, holds the record at `path`.

    `path` is collection/rkey. Raises ProtocolError: InvalidSignatureError for another
    key, MissingBlockError for a proof that ends early, and others for malformed blocks.
    """
    blocks = read_car(car)
    head = open_head(blocks.blocks[blocks.root], did, key, now_us)
    used: set[bytes] = set()

    def read(cid: bytes) -> bytes | None:
        used.add(cid)
        return blocks.blocks.get(cid)

    cid = Tree(read, head.data).get(path.encode())
    value = None
    if cid is not None:
        # The reader of the CAR compared every block with its CID.
        value = blocks.blocks.get(cid)
        if value is None:
            raise MissingBlockError("the proof lacks the bytes of the record")
    return RecordProof(
        cid_for(blocks.blocks[blocks.root]), head.rev, len(used), cid, value
    )
