"""Partial repos: a new commit and the blocks since a revision (getRepo with `since`).

They do not prove their completeness: only a holder of the older tree can combine both
and compare the root with the new commit.
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
    """A new head, the known part of its tree, and all received blocks by CID."""

    head: RepoHead
    part: KnownPart
    blocks: dict[bytes, bytes]


def read_diff(data: bytes, did: Did, key: PublicKey, now_us: int) -> RepoDiff:
    """Parse a partial repo; verifies hashes, the commit and all places of nodes.

    `now_us` is our clock. Raises ProtocolError.
    """
    car = read_car(data)
    signed = car.blocks[car.root]
    commit = open_head(signed, did, key, now_us)
    part = read_part(car.blocks.get, commit.data)
    head = RepoHead(did, commit.rev, commit.data, signed, len(part.found), 0)
    return RepoDiff(head, part, car.blocks)
