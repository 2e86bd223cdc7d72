"""Verified events: what a crawler proves and an indexer applies.

CIDs are 36 bytes. `host` is our number for the host that an event came from, `seq`
its place in that host's stream (0 for one that came by another way), `frame` the raw
frame where somebody wants to send it on.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from protocol.events.drops import DropReason
from protocol.syntax.did import Did
from protocol.syntax.handle import Handle
from protocol.syntax.nsid import Nsid
from protocol.syntax.record_key import RecordKey
from protocol.syntax.tid import Tid


# Not frozen, nor are commits: they are made by the thousand a second, and freezing
# makes that seven times as dear.
@dataclass(slots=True)
class RecordOp:
    """One change of one record. `cid` and `value` (its exact bytes) are None for a
    delete. `fields` is the value decoded by `cbor.decode_fast`, where that has been
    done already: a reader must not change it."""

    action: Literal["create", "update", "delete"]
    collection: Nsid
    rkey: RecordKey
    cid: bytes | None = None
    value: bytes | None = None
    fields: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DroppedOp:
    """A change that is in the tree but whose record we do not keep."""

    path: str
    cid: bytes | None
    reason: DropReason

    def is_of(self, collections: Container[str]) -> bool:
        """Whether its key is in one of these collections."""
        nsid, slash, _ = self.path.partition("/")
        return bool(slash) and nsid in collections


@dataclass(slots=True)
class CommitEvent:
    """A commit that follows from `prev_data` by exactly `ops` and `drops`.

    `data` and `prev_data` are tree roots, `commit` is the signed block itself.
    `prev_data` is None where the message did not name it. `unchecked` is the number of
    created keys whose place between their neighbours was not proven.
    """

    did: Did
    rev: Tid
    since: Tid | None
    data: bytes
    prev_data: bytes | None
    commit: bytes
    ops: Sequence[RecordOp]
    drops: Sequence[DroppedOp] = ()
    seq: int = 0
    host: int = 0
    unchecked: int = 0
    frame: bytes | None = field(default=None, compare=False, repr=False)

    def within(
        self, collections: Container[str]
    ) -> tuple[Sequence[RecordOp], Sequence[DroppedOp]]:
        """What it changes in some collections."""
        return (
            [op for op in self.ops if op.collection in collections],
            [drop for drop in self.drops if drop.is_of(collections)],
        )


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """A repo stands at this commit, by whatever way it got there."""

    did: Did
    rev: Tid
    data: bytes
    commit: bytes
    seq: int = 0
    host: int = 0
    frame: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """A DID document may have changed; `handle` is a hint and proves nothing."""

    did: Did
    handle: Handle | None = None
    seq: int = 0
    host: int = 0
    frame: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """Whether a host serves an account, and if not why (`status`).

    `asked_at`: when the host was asked, if it did not tell of itself. What it has told
    since then is newer, whichever comes here first.
    """

    did: Did
    active: bool
    status: str | None = None
    seq: int = 0
    host: int = 0
    frame: bytes | None = field(default=None, compare=False, repr=False)
    asked_at: datetime | None = field(default=None, compare=False)


Event = CommitEvent | SyncEvent | IdentityEvent | AccountEvent
