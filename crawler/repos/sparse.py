"""Some collections of a repo, proven complete, without the rest of it.

Walks the tree down from the signed commit, opening only nodes whose keys may belong to
the wanted collections (com.atproto.sync.getBlocks). All nodes within the bounds of a
collection are opened, so the commit proves that nothing is missing. Hosts without
getBlocks are asked for the whole repo.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from crawler.methods import GET_BLOCKS, GET_LATEST_COMMIT
from network.errors import BadResponseError, TooLargeError, XrpcError
from network.xrpc.client import XrpcClient
from protocol.data.cid import DATA_PREFIX, cid_from_text, cid_to_text
from protocol.errors import InvalidEncodingError, LimitExceededError, ProtocolError
from protocol.events.drops import DropReason
from protocol.events.event import DroppedOp
from protocol.identity.keys import PublicKey
from protocol.mst.ranges import RangeWalk, collection_range
from protocol.repo.car import CarReader
from protocol.repo.commit import open_head
from protocol.repo.whole_repo import RepoHead, RepoRecord
from protocol.syntax.did import Did

MAX_SPARSE_RECORDS: Final = 5_000
MAX_SPARSE_BYTES: Final = 8 * 1024**2
"""Above this, the whole repo is fetched."""

# Sixty CIDs keep an address under 4 kB.
_CIDS_A_REQUEST: Final = 60
_TRIES: Final = 3
_BLOCK_GONE: Final = "BlockNotFound"
# Errors that a whole fetch would meet too.
_OF_THE_ACCOUNT: Final = frozenset(
    {"RepoNotFound", "RepoTakendown", "RepoSuspended", "RepoDeactivated"}
)


class SparseUnavailableError(Exception):
    """The collections cannot be fetched alone: fetch the whole repo. `of_all`: the same
    holds for all repos of the host."""

    def __init__(self, message: str, *, of_all: bool = False) -> None:
        super().__init__(message)
        self.of_all = of_all


@dataclass(frozen=True, slots=True)
class SparseRepo:
    """All records of the wanted collections at `head`, and `drops` that cannot be kept.
    `bytes_read` counts bodies."""

    head: RepoHead
    records: list[RepoRecord]
    drops: list[DroppedOp]
    bytes_read: int


async def fetch_collections(
    client: XrpcClient,
    did: Did,
    key: PublicKey,
    collections: Collection[str],
    now_us: int,
    *,
    most_records: int = MAX_SPARSE_RECORDS,
) -> SparseRepo:
    """Fetch and prove some collections of a repo from its host.

    Verifies the commit's account, revision (`now_us` is our clock) and signature, the
    hash of each block, the place of each node. Raises SparseUnavailableError; XrpcError
    for the account; RateLimitedError and other network errors.
    """
    for _ in range(_TRIES):
        blocks = _Blocks(client, did)
        try:
            return await _fetch(blocks, key, collections, now_us, most_records)
        except XrpcError as error:
            if error.name in _OF_THE_ACCOUNT:
                raise
            if error.name != _BLOCK_GONE:
                raise SparseUnavailableError(str(error), of_all=True) from error
            # A commit between two requests replaced the block.
        except (ProtocolError, TooLargeError, BadResponseError) as error:
            raise SparseUnavailableError(str(error)) from error
    raise SparseUnavailableError("the repo changes faster than it can be read")


async def list_collections(
    client: XrpcClient,
    did: Did,
    root: bytes,
    collections: Collection[str],
    *,
    most_records: int = MAX_SPARSE_RECORDS,
) -> list[tuple[bytes, bytes]]:
    """Return the sorted (key, CID) of all records of some collections under a signed
    root.

    Raises SparseUnavailableError also if the host no longer has the tree; XrpcError for
    the account; RateLimitedError and other network errors.
    """
    blocks = _Blocks(client, did)
    try:
        return sorted(await _walk(blocks, root, collections, most_records))
    except XrpcError as error:
        if error.name in _OF_THE_ACCOUNT:
            raise
        raise SparseUnavailableError(str(error)) from error
    except (ProtocolError, TooLargeError, BadResponseError) as error:
        raise SparseUnavailableError(str(error)) from error


async def _fetch(
    blocks: _Blocks,
    key: PublicKey,
    collections: Collection[str],
    now_us: int,
    most: int,
) -> SparseRepo:
    commit_cid = await blocks.latest_commit()
    signed = (await blocks.get([commit_cid]))[commit_cid]
    commit = open_head(signed, blocks.did, key, now_us)
    found = await _walk(blocks, commit.data, collections, most)
    records: list[RepoRecord] = []
    drops: list[DroppedOp] = []
    wanted = [cid for _, cid in found if cid.startswith(DATA_PREFIX)]
    values = await blocks.get(wanted)
    size = 0
    for name, cid in found:
        path = name.decode("utf-8", "surrogateescape")
        collection, _, rkey = path.partition("/")
        value = values.get(cid)
        if value is not None:
            # The same block may be under every key.
            size += len(value)
            if size > MAX_SPARSE_BYTES:
                raise LimitExceededError("too much for a sparse fetch")
            records.append(RepoRecord(collection, rkey, cid, value))
        else:
            drops.append(DroppedOp(path, cid, DropReason.BAD_RECORD_ENCODING))
    head = RepoHead(
        blocks.did, commit.rev, commit.data, signed, len(found), blocks.unused
    )
    return SparseRepo(head, records, drops, MAX_SPARSE_BYTES - blocks.left)


async def _walk(
    blocks: _Blocks, root: bytes, collections: Collection[str], most: int
) -> list[tuple[bytes, bytes]]:
    ranges = [collection_range(nsid) for nsid in collections]
    walk = RangeWalk(root, ranges, most=most)
    while wanted := walk.wanted:
        for cid, raw in (await blocks.get(wanted)).items():
            walk.take(cid, raw)
    return walk.found


class _Blocks:
    """Blocks of one repo, fetched in groups."""

    def __init__(self, client: XrpcClient, did: Did) -> None:
        self.did = did
        self.unused = 0
        self._client = client
        self.left = MAX_SPARSE_BYTES

    async def latest_commit(self) -> bytes:
        """Return the CID of the newest commit."""
        answer = await self._client.query(GET_LATEST_COMMIT, {"did": self.did})
        text = answer.get("cid") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise InvalidEncodingError("no commit is named")
        return cid_from_text(text)

    async def get(self, cids: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return all these blocks; raises InvalidEncodingError if one is missing."""
        left = iter(dict.fromkeys(cids))
        found: dict[bytes, bytes] = {}
        while group := list(islice(left, _CIDS_A_REQUEST)):
            data = await self._client.query_bytes(
                GET_BLOCKS,
                {"did": self.did, "cids": [cid_to_text(cid) for cid in group]},
                max_bytes=self.left,
            )
            self.left -= len(data)
            if self.left <= 0:
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
