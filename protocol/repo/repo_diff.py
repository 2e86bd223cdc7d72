"""What a host sends of a repo since a revision: the new commit, and blocks that the
repo did not have then (com.atproto.sync.getRepo with `since`).

Nothing of it is proof that it is complete: only whoever holds the older tree can put
the two together, and must find the root that the new commit signs.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.identity.keys import PublicKey
from protocol.mst.ranges import KnownPart, read_part
from protocol.repo.car import read_car
from protocol.repo.commit import open_head
from protocol.repo.whole_repo import RepoHead
from protocol.syntax.did import Did


@dataclass(frozen=True, slots=True)
class RepoDiff:
    """The new head, what is known of its tree, and all blocks that came, by CID."""

    head: RepoHead
    part: KnownPart
    blocks: dict[bytes, bytes]


def read_diff(data: bytes, did: Did, key: PublicKey, now_us: int) -> RepoDiff:
    """Read such a CAR. Verifies: every hash, the commit's account, revision
    (`now_us` is our clock) and signature, the place of every node.
    Raises ProtocolError."""
    car = read_car(data)
    signed = car.blocks[car.root]
    commit = open_head(signed, did, key, now_us)
    part = read_part(car.blocks.get, commit.data)
    head = RepoHead(did, commit.rev, commit.data, signed, len(part.found), 0)
    return RepoDiff(head, part, car.blocks)
