"""Whole repos as CAR streams: reading one piece by piece, and writing one.

The reader follows the tree from the commit downwards, whatever the order of the
blocks: of a block whose place is known by then nothing is kept. Blocks that come
before their parents wait. Pre-order, which our own export has, and newest first,
which the reference server has, need next to no waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from protocol.data.cid import DATA_PREFIX, cid_for
from protocol.errors import (
    InvalidTreeError,
    LimitExceededError,
    MissingBlockError,
)
from protocol.events.drops import DropReason
from protocol.events.event import DroppedOp
from protocol.identity.keys import PublicKey
from protocol.limits import MAX_REPO_BYTES, MAX_REPO_RECORDS
from protocol.mst.build import BuiltNode, build_nodes
from protocol.mst.node import encode_node, parse_node
from protocol.mst.walk import ROOT_PLACE, Place, open_node
from protocol.repo.car import CarReader, car_block, car_header
from protocol.repo.commit import Commit, open_head, parse_commit
from protocol.syntax.did import Did
from protocol.syntax.tid import Tid

MAX_HELD_BYTES: Final = 64 * 1024**2
"""Blocks that may wait in memory, where no mapping is given to spill them to."""

_RECENT_BYTES: Final = 1024**2
_MAX_WANTED: Final = 100_000
_RECORD_LEVEL: Final = -1

# One block may stand under any number of keys. What is handed out for it may be so
# much, and more by a multiple of what came.
_MOST_SHARED_BYTES: Final = 4 * 1024**2
_MOST_SHARES: Final = 8

# In an export, trees below this level are made in memory. A quarter of the keys of
# each level are of the next: they hold a few hundred records each.
_BUFFERED_LEVELS: Final = 4


class RepoRecord(NamedTuple):
    """One record of a repo: the two parts of its path, its CID, its exact bytes.

    The parts have not been checked against any grammar.
    """

    collection: str
    rkey: str
    cid: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class RepoHead:
    """Where a repo stands. `commit` is the signed block, `data` the tree's root.

    `unused_bytes` came in blocks that the tree had no use for.
    """

    did: Did
    rev: Tid
    data: bytes
    commit: bytes
    records: int
    unused_bytes: int


# A record's place is its key; several places of one CID are a list.
_Place = bytes | Place
_Found = tuple[bytes, bytes, bytes]
"""A record whose place and bytes are known: key, CID, bytes."""


class RepoReader:
    """Reads the CAR of a whole repo, pushed in pieces of any size.

    Verifies: the hash of every block, once; that the commit is of `did` and not in the
    future (`now_us` is our clock), and its signature if `key` is given; every node of
    the tree, its place, the order and the heights of the keys; that nothing of the tree
    is missing. Does not verify: that records are canonical CBOR or fit their lexicon,
    the grammar of paths, that the revision is not an old one.

    Memory: blocks that have no place yet are put into `spill`, a mapping of the
    caller's that may be on disk, and is not used otherwise (by default a dict that
    holds 64 MiB at most). A record that stands under several keys mostly comes once.
    Records are remembered for the last 1 to 2 MiB; older ones go to `spill`, if given.
    Without it, one that is needed again after that is found missing at the end, and
    reading anew with a `spill` helps.
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
        # Places that wait for a block which another one waits for as well.
        self._doubly_wanted = 0
        self._deferred: list[tuple[bytes, Place]] = []
        # Records used lately, in two generations.
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
        """The records whose place and bytes are both known by now, in no set order.

        Raises InvalidEncodingError, InvalidSignatureError, InvalidTreeError or
        LimitExceededError; the reader is of no use then.
        """
        self._bytes += len(chunk)
        if self._bytes > MAX_REPO_BYTES:
            raise LimitExceededError("the repo is too large")
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
        # Counted as handed out: one small block may stand under any number of keys.
        self._records += len(found)
        self._record_bytes += sum([len(block) for _, _, block in found])
        if self._records > MAX_REPO_RECORDS or self._record_bytes > MAX_REPO_BYTES:
            raise LimitExceededError("the repo has too many records")
        if self._record_bytes > _MOST_SHARED_BYTES + _MOST_SHARES * self._bytes:
            raise LimitExceededError("too many records of the repo share their blocks")
        return self._name(found)

    def take_drops(self) -> list[DroppedOp]:
        """Records found since the last call that cannot be handed out: whose key is no
        path, or whose CID is not of a CBOR block. They are part of the tree."""
        drops, self._drops = self._drops, []
        return drops

    def finish(self) -> RepoHead:
        """Where the repo stands, after its last byte.

        Raises TruncatedError or MissingBlockError where the CAR ends early.
        """
        self._car.close()
        if self._commit is None:
            raise MissingBlockError("the commit of the repo is missing")
        if self._wanted or self._deferred:
            raise MissingBlockError("blocks of the repo are missing")
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
        """Take a block that no node has asked for so far."""
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
        """Put blocks in their places, and all that waited for nothing but them."""
        while ready:
            cid, block, place = ready.pop()
            if isinstance(place, bytes):
                found.append((place, cid, block))
            elif len(self._wanted) + self._doubly_wanted > _MAX_WANTED:
                # Far too much is outstanding: this node can wait for its turn.
                self._hold(cid, block)
                self._deferred.append((cid, place))
            else:
                if self._keeps_all:
                    # A record may have the very bytes of a node.
                    self._remember(cid, block)
                self._open(block, place, ready)

    def _open_deferred(self, found: list[_Found]) -> None:
        while self._deferred:
            if len(self._wanted) + self._doubly_wanted > _MAX_WANTED // 2:
                return
            cid, place = self._deferred.pop()
            if cid not in self._spill:
                raise InvalidTreeError("a node stands in two places")
            ready: list[tuple[bytes, bytes, _Place]] = []
            block = self._release(cid)
            self._remember(cid, block)
            self._open(block, place, ready)
            self._follow(ready, found)

    def _open(
        self,
        raw: bytes,
        place: Place,
        ready: list[tuple[bytes, bytes, _Place]],
    ) -> None:
        """Check a node in its place and ask for all that it links to."""
        (level, low, high), (keys, values, links) = open_node(raw, place)
        below = level - 1
        wanted = self._wanted
        recent, older, spill = self._recent, self._older, self._spill
        for key, value, link in zip(keys, values, links, strict=False):
            if link is not None:
                self._want(link, Place(below, low, key), ready)
            low = key
            # Of all valid CIDs only those of CBOR blocks start like this.
            if not value.startswith(DATA_PREFIX):
                self._drop(key, value, DropReason.BAD_RECORD_ENCODING)
            elif value in wanted or value in recent or value in older or value in spill:
                self._want(value, key, ready)
                # What is remembered now may have begun a new generation.
                recent, older = self._recent, self._older
            else:
                wanted[value] = key
        last = links[-1]
        if last is not None:
            self._want(last, Place(below, low, high), ready)

    def _want(
        self, cid: bytes, place: _Place, ready: list[tuple[bytes, bytes, _Place]]
    ) -> None:
        """Ask for a block: it is at hand, or will be put in its place when it comes."""
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
                # The next node may want it too, before it has been handed out.
                self._remember(cid, block)
        else:
            wanted[cid] = place
            return
        ready.append((cid, block, place))

    def _hold(self, cid: bytes, block: bytes) -> None:
        self._spill_bytes += len(block)
        if self._spill_bytes > self._max_spill_bytes:
            raise LimitExceededError("too many blocks come before their place is known")
        self._spill[cid] = block

    def _release(self, cid: bytes) -> bytes:
        block = self._spill[cid]
        del self._spill[cid]
        self._spill_bytes -= len(block)
        return block

    def _name(self, found: list[_Found]) -> list[RepoRecord]:
        """Records by their paths; those whose key is none are dropped."""
        named: list[RepoRecord] = []
        append, new = named.append, tuple.__new__
        for key, cid, block in found:
            path = key.decode("utf-8", "surrogateescape")
            collection, slash, rkey = path.partition("/")
            if slash:
                # As RepoRecord(...), in half the time.
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
        """Let go of the older generation, or spill it."""
        if self._keeps_all:
            for cid, block in self._older.items():
                self._hold(cid, block)
        self._older = self._recent
        self._recent = {}
        self._recent_bytes = 0

    def _drop(self, key: bytes, cid: bytes, reason: DropReason) -> None:
        # Bytes that are not UTF-8 are escaped, so that none are lost.
        path = key.decode("utf-8", "surrogateescape")
        self._drops.append(DroppedOp(path, cid, reason))


def export_repo(
    commit_raw: bytes,
    items: Callable[[], Iterable[tuple[bytes, bytes, bytes]]],
) -> Iterator[bytes]:
    """The CAR of a repo in pre-order, in pieces: what a reader can follow at once.

    `items` starts a reading of the (key, CID, value) of all records, in the order of
    the keys; it is called twice, and must give the same both times. Memory is the
    upper levels of the tree and a few hundred records.
    Raises InvalidTreeError before the first piece if the records do not make the tree
    that the commit signs.
    """
    commit = parse_commit(commit_raw)
    nodes: dict[bytes, bytes] = {}
    root: BuiltNode | None = None
    for root in build_nodes((key, cid) for key, cid, _ in items()):
        if root.level >= _BUFFERED_LEVELS:
            nodes[root.cid] = root.raw
    if root is None or root.cid != commit.data:
        raise InvalidTreeError("the records are not those that the commit signs")
    return _export(commit_raw, root, nodes, _Items(items()))


class _Items:
    """Records in the order of their keys, of which some can be looked at early."""

    def __init__(self, items: Iterable[tuple[bytes, bytes, bytes]]) -> None:
        self._source = iter(items)
        self._ahead: deque[tuple[bytes, bytes, bytes]] = deque()

    def next(self) -> tuple[bytes, bytes, bytes]:
        item = self._ahead.popleft() if self._ahead else next(self._source, None)
        if item is None:
            raise InvalidTreeError("the records ended early when read again")
        return item

    def until(self, high: bytes | None) -> list[tuple[bytes, bytes]]:
        """The keys and CIDs of all that come before `high`; None is the end."""
        for item in self._source:
            self._ahead.append(item)
            if high is not None and item[0] >= high:
                break
        return [(key, cid) for key, cid, _ in self._ahead if high is None or key < high]


class _Todo(NamedTuple):
    """A node at a level and what ends its keys; a record has the level -1."""

    cid: bytes
    level: int
    high: bytes | None


def _export(
    commit_raw: bytes, root: BuiltNode, nodes: dict[bytes, bytes], items: _Items
) -> Iterator[bytes]:
    commit_cid = cid_for(commit_raw)
    yield car_header(commit_cid)
    yield car_block(commit_cid, commit_raw)
    stack = [_Todo(root.cid, root.level, None)]
    while stack:
        cid, level, high = stack.pop()
        if level < 0:
            _, found, value = items.next()
            if found != cid:
                raise InvalidTreeError("the records changed when read again")
            yield car_block(cid, value)
            continue
        if cid not in nodes:
            _build_lower(nodes, items.until(high), level)
        raw = nodes.pop(cid, None)
        if raw is None:
            raise InvalidTreeError("the records changed when read again")
        yield car_block(cid, raw)
        keys, values, links = parse_node(raw)
        bounds: list[bytes | None] = [*keys, high]
        for index in range(len(keys), -1, -1):
            link = links[index]
            if link is not None:
                stack.append(_Todo(link, level - 1, bounds[index]))
            if index:
                stack.append(_Todo(values[index - 1], _RECORD_LEVEL, None))


def _build_lower(
    nodes: dict[bytes, bytes], items: list[tuple[bytes, bytes]], level: int
) -> None:
    """Add the nodes of a tree of a few records, up to a root at `level`."""
    built: BuiltNode | None = None
    for built in build_nodes(items):
        nodes[built.cid] = built.raw
    assert built is not None
    cid = built.cid
    for _ in range(built.level, level):
        raw = encode_node([], [], [cid])
        cid = cid_for(raw)
        nodes[cid] = raw
