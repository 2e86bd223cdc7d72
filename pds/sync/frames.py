"""The bodies of this server's stream messages, encoded (specs/event-stream)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.data.cid import Cid
from protocol.events.frames import encode_frame
from protocol.repo.car import car_block, car_header

COMMIT = "#commit"
SYNC = "#sync"
IDENTITY = "#identity"
ACCOUNT = "#account"


@dataclass(frozen=True, slots=True)
class CommitOp:
    """One changed record. `cid` is None for a delete, `prev` for a create."""

    action: str
    path: str
    cid: bytes | None
    prev: bytes | None


@dataclass(frozen=True, slots=True)
class CommitMessage:
    """A commit as the stream tells it. `blocks` is a CAR whose root is `commit`.

    `since` and `prev_data` are None only for the first commit of a repo.
    """

    did: str
    rev: str
    since: str | None
    commit: bytes
    prev_data: bytes | None
    blocks: bytes
    ops: Sequence[CommitOp]

    kind = COMMIT

    def encode(self, seq: int, time: str) -> bytes:
        body: dict[str, Any] = {
            "seq": seq,
            "rebase": False,
            "tooBig": False,
            "repo": self.did,
            "commit": Cid(self.commit),
            "rev": self.rev,
            "since": self.since,
            "blocks": self.blocks,
            "ops": [_op(op) for op in self.ops],
            "blobs": [],
            "time": time,
        }
        if self.prev_data is not None:
            body["prevData"] = Cid(self.prev_data)
        return encode_frame(COMMIT, body)


@dataclass(frozen=True, slots=True)
class SyncMessage:
    """The repo is at this commit, however it came there."""

    did: str
    rev: str
    blocks: bytes

    kind = SYNC

    def encode(self, seq: int, time: str) -> bytes:
        return encode_frame(
            SYNC,
            {
                "seq": seq,
                "did": self.did,
                "blocks": self.blocks,
                "rev": self.rev,
                "time": time,
            },
        )


@dataclass(frozen=True, slots=True)
class IdentityMessage:
    """Handle, key or host of the account changed."""

    did: str
    handle: str

    kind = IDENTITY

    def encode(self, seq: int, time: str) -> bytes:
        return encode_frame(
            IDENTITY,
            {"seq": seq, "did": self.did, "time": time, "handle": self.handle},
        )


@dataclass(frozen=True, slots=True)
class AccountMessage:
    """Hosting status here. `status` says why an account is not active."""

    did: str
    active: bool
    status: str | None = None

    kind = ACCOUNT

    def encode(self, seq: int, time: str) -> bytes:
        body: dict[str, Any] = {
            "seq": seq,
            "did": self.did,
            "time": time,
            "active": self.active,
        }
        if self.status is not None:
            body["status"] = self.status
        return encode_frame(ACCOUNT, body)


Message = CommitMessage | SyncMessage | IdentityMessage | AccountMessage


def car(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a CAR file of these blocks."""
    parts = [car_header(root)]
    parts.extend(car_block(cid, value) for cid, value in blocks)
    return b"".join(parts)


def _op(op: CommitOp) -> dict[str, Any]:
    body: dict[str, Any] = {
        "action": op.action,
        "path": op.path,
        "cid": None if op.cid is None else Cid(op.cid),
    }
    if op.prev is not None:
        body["prev"] = Cid(op.prev)
    return body
