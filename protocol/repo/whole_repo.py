"""Whole repos, read from CAR streams.

The reader follows the tree from the commit downwards, for any order of blocks. Blocks
that arrive before their parents wait; few do in pre-order (our export) or newest first
(the reference server).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from protocol.data.cid import DATA_PREFIX
from protocol.errors import InvalidTreeError, LimitExceededError, MissingBlockError
from protocol.events.drops import DropReason
from protocol.events.event import DroppedOp
from protocol.identity.keys import PublicKey
from protocol.limits import MAX_REPO_BYTES, MAX_REPO_RECORDS
from protocol.mst.walk import ROOT_PLACE, Place, open_node
from protocol.repo.car import CarReader
from protocol.repo.commit import Commit, open_head
from protocol.syntax.did import Did
from protocol.syntax.tid import Tid

# Blocks that may wait in memory, if the caller provides no `spill`.
MAX_HELD_BYTES: Final = 64 * 1024**2
_RECENT_BYTES: Final = 1024**2
_MAX_WANTED: Final = 100_000

# A block may stand under any number of keys. Records that share blocks may add up to
# so many bytes, plus a multiple of the bytes received.
_MOST_SHARED_BYTES: Final = 4 * 1024**2
_MOST_SHARES: Final = 8


class RepoRecord(NamedTuple):
    """A record of a repo with its exact bytes; its path is not checked."""

    collection: str
    rkey: str
    cid: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class RepoHead:
    """The state of a repo: `commit` is the signed block, `data` the root of the tree.

    `unused_bytes` came in blocks that are not part of the tree.
    """

    did: Did
    rev: Tid
    data: bytes
    commit: bytes
    records: int
    unused_bytes: int


# The place of a record is its key; several places of one CID are a list.
_Place = bytes | Place
# Key, CID and bytes of a record.
_Found = tuple[bytes, bytes, bytes]


class RepoReader:
    """An incremental reader of the CAR of a whole repo.

    Verifies all hashes, the commit (its signature if `key` is given; `now_us` is our
    clock), every node and its place, and completeness. Does not verify record encoding,
    lexicons, path syntax, or that the revision is current.

    Blocks without a known place go to `spill`, a mapping that may be on disk (by
    default a dict of at most 64 MiB). Records of the last 1 to 2 MiB are kept for
    reuse; older ones go to `spill`, if given. Without it, an older record that is
    needed again is reported missing at the end; read again with a `spill`.
    """

    def __init__(
        self,
        key: PublicKey | None,
        did: Did,
        now_us: int,
        spill: MutableMapping[bytes, bytes] | None = None,
        *,
        max_spill_bytes: int | None = None,
    ) -> None:
        self._key = key
        self._did = did
        self._now_us = now_us
        self._car = CarReader()
        self._keeps_all = spill is not None
        self._spill: MutableMapping[bytes, bytes] = {} if spill is None else spill
        self._spill_bytes = 0
        if max_spill_bytes is None:
            max_spill_bytes = MAX_HELD_BYTES if spill is None else MAX_REPO_BYTES
        self._max_spill_bytes = max_spill_bytes
        self._wanted: dict[bytes, _Place | list[_Place]] = {}
        # Places that wait for the same block as another place.
        self._doubly_wanted = 0
        self._deferred: list[tuple[bytes, Place]] = []
        # Recently used records, in two generations.
        self._recent: dict[bytes, bytes] = {}
        self._older: dict[bytes, bytes] = {}
        self._recent_bytes = 0
        self._commit: tuple[Commit, bytes] | None = None
        self._bytes = 0
        self._unplaced_bytes = 0
        self._records = 0
        self._record_bytes = 0
        self._drops: list[DroppedOp] = []

    def feed(self, chunk: bytes) -> list[RepoRecord]:
        """Return the records that this chunk completes, in no set order.

        After an error the reader is unusable. Raises InvalidEncodingError,
        InvalidSignatureError, InvalidTreeError or LimitExceededError.
        """
        self._bytes += len(chunk)
        if self._bytes > MAX_REPO_BYTES:
            raise LimitExceededError("repo is too large")
        found: list[_Found] = []
        pop = self._wanted.pop
        for cid, block in self._car.feed(chunk):
            place = pop(cid, None)
            if type(place) is bytes:
                found.append((place, cid, block))
                self._recent[cid] = block
                self._recent_bytes += len(block)
                if self._recent_bytes > _RECENT_BYTES:
                    self._forget()
            elif place is None:
                self._take_unplaced(cid, block, found)
            else:
                self._take(cid, block, place, found)
        if self._deferred:
            self._open_deferred(found)
        # Count records, not blocks: a small block may stand under any number of keys.
        self._records += len(found)
        self._record_bytes += sum([len(block) for _, _, block in found])
        if self._records > MAX_REPO_RECORDS or self._record_bytes > MAX_REPO_BYTES:
            raise LimitExceededError("repo has too many records")
        if self._record_bytes > _MOST_SHARED_BYTES + _MOST_SHARES * self._bytes:
            raise LimitExceededError("too many records share their blocks")
        return self._name(found)

    def take_drops(self) -> list[DroppedOp]:
        """Return unusable records of the tree since the last call.

        Their key is not a path or their CID not that of a CBOR block.
        """
        drops, self._drops = self._drops, []
        return drops

    def finish(self) -> RepoHead:
        """Return the head of the repo after its last byte.

        Raises TruncatedError or MissingBlockError if the CAR is incomplete.
        """
        self._car.close()
        if self._commit is None:
            raise MissingBlockError("repo has no commit")
        if self._wanted or self._deferred:
            raise MissingBlockError("repo lacks blocks")
        commit, signed = self._commit
        return RepoHead(
            commit.did,
            commit.rev,
            commit.data,
            signed,
            self._records,
            max(0, self._unplaced_bytes),
        )

    def _take_unplaced(self, cid: bytes, block: bytes, found: list[_Found]) -> None:
        """Accept a block that no node has linked to so far."""
        if self._commit is None and cid == self._car.root:
            self._begin(block, found)
        elif cid in self._recent or cid in self._older or cid in self._spill:
            self._unplaced_bytes += len(block)
        else:
            self._unplaced_bytes += len(block)
            self._hold(cid, block)

    def _begin(self, signed: bytes, found: list[_Found]) -> None:
        commit = open_head(signed, self._did, self._key, self._now_us)
        self._commit = commit, signed
        ready: list[tuple[bytes, bytes, _Place]] = []
        self._want(commit.data, ROOT_PLACE, ready)
        self._follow(ready, found)

    def _take(
        self,
        cid: bytes,
        block: bytes,
        place: _Place | list[_Place],
        found: list[_Found],
    ) -> None:
        places = place if isinstance(place, list) else [place]
        self._doubly_wanted -= len(places) - 1
        if any(isinstance(place, bytes) for place in places):
            self._remember(cid, block)
        self._follow([(cid, block, place) for place in places], found)

    def _follow(
        self, ready: list[tuple[bytes, bytes, _Place]], found: list[_Found]
    ) -> None:
        """Place blocks, and all blocks that waited only for them."""
        while ready:
            cid, block, place = ready.pop()
            if isinstance(place, bytes):
                found.append((place, cid, block))
            elif len(self._wanted) + self._doubly_wanted > _MAX_WANTED:
                # Too many blocks are outstanding: open this node later.
                self._hold(cid, block)
                self._deferred.append((cid, place))
            else:
                if self._keeps_all:
                    # A record may have the same bytes as a node.
                    self._remember(cid, block)
                self._open(block, place, ready)

    def _open_deferred(self, found: list[_Found]) -> None:
        while self._deferred:
            if len(self._wanted) + self._doubly_wanted > _MAX_WANTED // 2:
                return
            cid, place = self._deferred.pop()
            if cid not in self._spill:
                raise InvalidTreeError("node stands in two places")
            ready: list[tuple[bytes, bytes, _Place]] = []
            block = self._release(cid)
            self._remember(cid, block)
            self._open(block, place, ready)
            self._follow(ready, found)

    def _open(
        self, raw: bytes, place: Place, ready: list[tuple[bytes, bytes, _Place]]
    ) -> None:
        """Check a node and request all that it links to."""
        (level, low, high), (keys, values, links) = open_node(raw, place)
        below = level - 1
        wanted = self._wanted
        recent, older, spill = self._recent, self._older, self._spill
        for key, value, link in zip(keys, values, links, strict=False):
            if link is not None:
                self._want(link, Place(below, low, key), ready)
            low = key
            # All CIDs of CBOR blocks start with this prefix.
            if not value.startswith(DATA_PREFIX):
                self._drop(key, value, DropReason.BAD_RECORD_ENCODING)
            elif value in wanted or value in recent or value in older or value in spill:
                self._want(value, key, ready)
                # That may have started a new generation.
                recent, older = self._recent, self._older
            else:
                wanted[value] = key
        last = links[-1]
        if last is not None:
            self._want(last, Place(below, low, high), ready)

    def _want(
        self, cid: bytes, place: _Place, ready: list[tuple[bytes, bytes, _Place]]
    ) -> None:
        """Request a block: take it if it has arrived, else note its place."""
        wanted = self._wanted
        if cid in wanted:
            other = wanted[cid]
            self._doubly_wanted += 1
            if isinstance(other, list):
                other.append(place)
            else:
                wanted[cid] = [other, place]
            return
        if cid in self._recent:
            block = self._recent[cid]
        elif cid in self._older:
            block = self._older[cid]
        elif cid in self._spill:
            block = self._release(cid)
            self._unplaced_bytes -= len(block)
            if isinstance(place, bytes):
                # The next node may link to it, too.
                self._remember(cid, block)
        else:
            wanted[cid] = place
            return
        ready.append((cid, block, place))

    def _hold(self, cid: bytes, block: bytes) -> None:
        self._spill_bytes += len(block)
        if self._spill_bytes > self._max_spill_bytes:
            raise LimitExceededError("too many blocks precede their parents")
        self._spill[cid] = block

    def _release(self, cid: bytes) -> bytes:
        block = self._spill[cid]
        del self._spill[cid]
        self._spill_bytes -= len(block)
        return block

    def _name(self, found: list[_Found]) -> list[RepoRecord]:
        """Return records by their paths; drop those without one."""
        named: list[RepoRecord] = []
        append, new = named.append, tuple.__new__
        for key, cid, block in found:
            path = key.decode("utf-8", "surrogateescape")
            collection, slash, rkey = path.partition("/")
            if slash:
                # Twice as fast as RepoRecord(...).
                append(new(RepoRecord, (collection, rkey, cid, block)))
            else:
                self._drop(key, cid, DropReason.BAD_PATH)
        return named

    def _remember(self, cid: bytes, block: bytes) -> None:
        self._recent[cid] = block
        self._recent_bytes += len(block)
        if self._recent_bytes > _RECENT_BYTES:
            self._forget()

    def _forget(self) -> None:
        """Drop the older generation, or spill it."""
        if self._keeps_all:
            for cid, block in self._older.items():
                self._hold(cid, block)
        self._older = self._recent
        self._recent = {}
        self._recent_bytes = 0

    def _drop(self, key: bytes, cid: bytes, reason: DropReason) -> None:
        path = key.decode("utf-8", "surrogateescape")
        self._drops.append(DroppedOp(path, cid, reason))
