"""Verified events: the crawler's output and the indexer's input.

CIDs are 36 bytes. `host` is our number of the sending host. `seq` is the sequence
number in its stream, 0 for events from elsewhere. `frame` is the raw frame, if it is
rebroadcast.
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


# Operations and commits are not frozen: freezing makes construction seven times slower.
@dataclass(slots=True)
class RecordOp:
    """A change of a record; `cid` and `value` (exact bytes) are None for a delete.

    `fields` is the value as `cbor.decode_fast` returns it, if already decoded; readers
    must not modify it.
    """

    action: Literal["create", "update", "delete"]
    collection: Nsid
    rkey: RecordKey
    cid: bytes | None = None
    value: bytes | None = None
    fields: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DroppedOp:
    """A change in the tree whose record is not kept."""

    path: str
    cid: bytes | None
    reason: DropReason

    def is_of(self, collections: Container[str]) -> bool:
        """Return True if the key is in one of these collections."""
        nsid, slash, _ = self.path.partition("/")
        return bool(slash) and nsid in collections


@dataclass(slots=True)
class CommitEvent:
    """A commit that follows `prev_data` by exactly `ops` and `drops`.

    `data` and `prev_data` are tree roots, `commit` is the signed block. `prev_data` is
    None if the message does not name it. `unchecked` counts created keys whose order
    among their neighbours is not proven.
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
        """Return the operations and drops in some collections."""
        return (
            [op for op in self.ops if op.collection in collections],
            [drop for drop in self.drops if drop.is_of(collections)],
        )


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """The current commit of a repo, without its history."""

    did: Did
    rev: Tid
    data: bytes
    commit: bytes
    seq: int = 0
    host: int = 0
    frame: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """A possible change of a DID document; `handle` is an unverified hint."""

    did: Did
    handle: Handle | None = None
    seq: int = 0
    host: int = 0
    frame: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """The state of an account on its host; `status` says why it is inactive.

    `asked_at` is the time of our request, if the host did not send the event itself:
    what the host has sent since then is newer.
    """

    did: Did
    active: bool
    status: str | None = None
    seq: int = 0
    host: int = 0
    frame: bytes | None = field(default=None, compare=False, repr=False)
    asked_at: datetime | None = field(default=None, compare=False)


Event = CommitEvent | SyncEvent | IdentityEvent | AccountEvent
