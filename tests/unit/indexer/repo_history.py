"""Seeded commits of a few accounts, and the state of each after every commit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from indexer_world import Author, author
from record_kinds import BAD_PATHS, Kinds

from protocol.data.cid import cid_for
from protocol.data.record import open_record
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp
from protocol.limits import MAX_RECORD_BYTES_BACKFILL
from protocol.mst import build_nodes, build_root
from protocol.repo.whole_repo import RepoRecord
from storage.collections import FEED_POST


@dataclass
class Writer(Author):
    """An author with some records that cannot be kept; `unkept` are their bytes."""

    unkept: dict[str, bytes] = field(default_factory=dict)

    def snapshot(self) -> Writer:
        copied = (dict(self.records), dict(self.dropped), dict(self.unkept))
        return Writer(
            self.did, self.host, self.rev, self.data, self.signed, self.seq, *copied
        )

    def write_all(self, writes: dict[str, bytes | None]) -> CommitEvent:
        """Make one commit: path -> bytes of a record, kept or not; None to delete."""
        reasons = {path: _reason(path, raw) for path, raw in writes.items()}
        good = {path: raw for path, raw in writes.items() if reasons[path] is None}
        bad = {path: raw for path, raw in writes.items() if reasons[path] is not None}
        for path, raw in writes.items():
            self.unkept.pop(path, None)
            if raw is not None and reasons[path] is not None:
                self.unkept[path] = raw
        cids = {
            path: None if raw is None else cid_for(raw) for path, raw in bad.items()
        }
        event = self.commit(dict(good), cids)
        event.drops = tuple(
            DroppedOp(drop.path, drop.cid, reasons[drop.path] or DropReason.BAD_PATH)
            for drop in event.drops
        )
        return event

    def root(self) -> bytes:
        return build_root(sorted(self.leaves().items()))

    def leaves(self) -> dict[bytes, bytes]:
        leaves = {path.encode(): cid_for(raw) for path, raw in self.records.items()}
        return leaves | {path.encode(): cid for path, cid in self.dropped.items()}

    def tree_records(self, keeps: Iterable[str] | None = None) -> list[RepoRecord]:
        """Return everything in the tree, as a repo reader yields it."""
        found = [
            RepoRecord(collection, rkey, cid_for(raw), raw)
            for path, raw in {**self.records, **self.unkept}.items()
            for collection, slash, rkey in [path.partition("/")]
            if slash and (keeps is None or collection in keeps)
        ]
        return sorted(found, key=lambda record: (record.collection, record.rkey))

    def tree_drops(self, keeps: Iterable[str] | None = None) -> list[DroppedOp]:
        """Return the tree keys without a valid path."""
        return [
            DroppedOp(path, cid_for(raw), DropReason.BAD_PATH)
            for path, raw in self.unkept.items()
            if "/" not in path and keeps is None
        ]

    def blocks(self) -> dict[bytes, bytes]:
        nodes = {n.cid: n.raw for n in build_nodes(sorted(self.leaves().items()))}
        values = (*self.records.values(), *self.unkept.values())
        return nodes | {cid_for(raw): raw for raw in values}


def _reason(path: str, raw: bytes | None) -> DropReason | None:
    """Return the reason for dropping a write, as verification finds it."""
    if path in BAD_PATHS:
        return DropReason.BAD_PATH
    if raw is None:
        return None
    fields = open_record(raw, MAX_RECORD_BYTES_BACKFILL)
    return fields if isinstance(fields, DropReason) else None


class History:
    """Commits of a few accounts, and the state of each after every commit."""

    def __init__(self, seed: int, *, accounts: int = 3, commits: int = 24) -> None:
        rng = random.Random(seed)
        self.writers = [Writer(author(number).did) for number in range(accounts)]
        kinds = Kinds(rng, [writer.did for writer in self.writers])
        self.events: list[list[CommitEvent]] = [[] for _ in self.writers]
        self.states: list[list[Writer]] = [[] for _ in self.writers]
        last = b""
        ended: set[tuple[int, str]] = set()
        for number in range(commits):
            who = number if number < accounts else rng.randrange(accounts)
            writer = self.writers[who]
            writes: dict[str, bytes | None] = {}
            for _ in range(rng.randrange(1, 7)):
                path = kinds.path() if rng.random() < 0.95 else rng.choice(BAD_PATHS)
                held = [*writer.records, *writer.dropped]
                if held and rng.random() < 0.5:
                    path = rng.choice(held)
                if (who, path) in ended:
                    continue
                draw = rng.random()
                if draw < 0.3:
                    if path in held:
                        writes[path] = None
                elif draw < 0.4:
                    writes[path] = kinds.unkept()
                elif draw < 0.5 and last:
                    writes[path] = last  # the same CID under several keys
                else:
                    last = writes[path] = kinds.record(path.partition("/")[0])
            # A post that begins anew is told from one that was edited only by who saw
            # it end.
            posts = [path for path in writes if path.startswith(FEED_POST)]
            ended |= {
                (who, p) for p in posts if _reason(p, writes[p]) or writes[p] is None
            }
            self.events[who].append(writer.write_all(writes))
            self.states[who].append(writer.snapshot())

    def cut(self, rng: random.Random) -> list[int]:
        """Return how many commits of each account come first: at least one."""
        return [rng.randrange(1, len(events) + 1) for events in self.events]

    def mix(
        self, rng: random.Random, begin: Sequence[int], end: Sequence[int]
    ) -> list[CommitEvent]:
        """Return the commits of all accounts, each account's own in order."""
        left = [list(e[a:b]) for e, a, b in zip(self.events, begin, end, strict=True)]
        order = [n for n, events in enumerate(left) for _ in events]
        rng.shuffle(order)
        return [left[number].pop(0) for number in order]

    @property
    def ends(self) -> list[int]:
        return [len(events) for events in self.events]
