"""Some collections of a repo, proven complete, without the rest of it.

From the signed commit down, only nodes of the tree are asked for whose keys may be
of the wanted collections, then their records (com.atproto.sync.getBlocks). Every node
between the bounds of a collection has been opened at the end, so nothing is missing of
what the commit signs. Of hosts that do not give blocks the whole repo is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from crawler.methods import GET_BLOCKS, GET_LATEST_COMMIT
from network.errors import BadResponseError, TooLargeError, XrpcError
from network.xrpc_client import XrpcClient
from protocol.car import CarReader
from protocol.cid import DATA_PREFIX, cid_from_text, cid_to_text
from protocol.commit import parse_commit, verify_commit_signature
from protocol.errors import InvalidEncodingError, LimitExceededError, ProtocolError
from protocol.keys import PublicKey
from protocol.mst.ranges import RangeWalk, collection_range
from protocol.repo import RepoHead, RepoRecord
from protocol.syntax.did import Did

MAX_SPARSE_RECORDS: Final = 5_000
MAX_SPARSE_BYTES: Final = 32 * 1024**2
"""Of more, the whole repo is the better way."""

# Sixty CIDs keep an address under 4 kB.
_CIDS_A_REQUEST: Final = 60
_TRIES: Final = 3
_BLOCK_GONE: Final = "BlockNotFound"
# What a whole fetch would meet as well.
_OF_THE_ACCOUNT: Final = frozenset(
    {"RepoNotFound", "RepoTakendown", "RepoSuspended", "RepoDeactivated"}
)


class SparseUnavailableError(Exception):
    """The host does not give what this takes, or it is too much: fetch the whole
    repo, which also tells whether something is wrong with it."""


@dataclass(frozen=True, slots=True)
class SparseRepo:
    """All records of the wanted collections at `head`, whose count is of them only."""

    head: RepoHead
    records: list[RepoRecord]


async def fetch_collections(
    client: XrpcClient,
    did: Did,
    key: PublicKey,
    collections: Collection[str],
    *,
    most_records: int = MAX_SPARSE_RECORDS,
) -> SparseRepo:
    """Fetch and prove some collections of a repo from its host.

    Verifies the commit's account and signature, the hash of each block, the place of
    each node. Raises SparseUnavailableError; XrpcError with the host's word on the
    account; RateLimitedError and what else the network has.
    """
    for _ in range(_TRIES):
        blocks = _Blocks(client, did)
        try:
            return await _fetch(blocks, key, collections, most_records)
        except XrpcError as error:
            if error.name in _OF_THE_ACCOUNT:
                raise
            if error.name != _BLOCK_GONE:
                raise SparseUnavailableError(str(error)) from error
            # A commit came between two requests, and what it replaced is gone.
        except (ProtocolError, TooLargeError, BadResponseError) as error:
            raise SparseUnavailableError(str(error)) from error
    raise SparseUnavailableError("the repo changes faster than it can be read")


async def has_collection(
    client: XrpcClient, did: Did, key: PublicKey, collection: str
) -> bool:
    """Whether a repo holds a record of a collection, by the same proof and without
    its records. Raises as `fetch_collections`."""
    blocks = _Blocks(client, did)
    try:
        _, walk = await _walk(blocks, key, [collection], MAX_SPARSE_RECORDS)
    except LimitExceededError:
        return True
    except (ProtocolError, TooLargeError, BadResponseError) as error:
        raise SparseUnavailableError(str(error)) from error
    return bool(walk.found)


async def _fetch(
    blocks: _Blocks, key: PublicKey, collections: Collection[str], most: int
) -> SparseRepo:
    head, walk = await _walk(blocks, key, collections, most)
    records: list[RepoRecord] = []
    wanted = [cid for _, cid in walk.found if cid.startswith(DATA_PREFIX)]
    values = await blocks.get(wanted)
    for path, cid in walk.found:
        collection, _, rkey = path.decode("utf-8", "surrogateescape").partition("/")
        value = values.get(cid)
        if value is not None:
            records.append(RepoRecord(collection, rkey, cid, value))
    return SparseRepo(head, records)


async def _walk(
    blocks: _Blocks, key: PublicKey, collections: Collection[str], most: int
) -> tuple[RepoHead, RangeWalk]:
    commit_cid = await blocks.latest_commit()
    signed = (await blocks.get([commit_cid]))[commit_cid]
    commit = parse_commit(signed)
    if commit.did != blocks.did:
        raise InvalidEncodingError("the repo is of another account")
    verify_commit_signature(signed, key, commit)
    ranges = [collection_range(nsid) for nsid in collections]
    walk = RangeWalk(commit.data, ranges, most=most)
    while wanted := walk.wanted:
        for cid, raw in (await blocks.get(wanted)).items():
            walk.take(cid, raw)
    head = RepoHead(
        blocks.did, commit.rev, commit.data, signed, len(walk.found), blocks.unused
    )
    return head, walk


class _Blocks:
    """Blocks of one repo, a request's worth at a time."""

    def __init__(self, client: XrpcClient, did: Did) -> None:
        self.did = did
        self.unused = 0
        self._client = client
        self._left = MAX_SPARSE_BYTES

    async def latest_commit(self) -> bytes:
        """The CID of the newest commit, as the host says."""
        answer = await self._client.query(GET_LATEST_COMMIT, {"did": self.did})
        text = answer.get("cid") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise InvalidEncodingError("no commit is named")
        return cid_from_text(text)

    async def get(self, cids: Iterable[bytes]) -> dict[bytes, bytes]:
        """All these blocks; raises InvalidEncodingError if one does not come."""
        left = iter(dict.fromkeys(cids))
        found: dict[bytes, bytes] = {}
        while group := list(islice(left, _CIDS_A_REQUEST)):
            data = await self._client.query_bytes(
                GET_BLOCKS,
                {"did": self.did, "cids": [cid_to_text(cid) for cid in group]},
                max_bytes=self._left,
            )
            self._left -= len(data)
            if self._left <= 0:
                raise LimitExceededError("too much for a sparse fetch")
            reader = CarReader(rootless=True)
            came = dict(reader.feed(data))
            reader.close()
            for cid in group:
                if cid not in came:
                    raise InvalidEncodingError("a block that was asked for is missing")
                found[cid] = came.pop(cid)
            self.unused += sum(map(len, came.values()))
        return found
