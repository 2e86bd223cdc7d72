"""Messages of this server's stream, encoded (specs/event-stream)."""

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
    """One changed record; `cid` is None for a delete, `prev` for a create."""

    action: str
    path: str
    cid: bytes | None
    prev: bytes | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the stream without its number and time."""

    kind: str
    body: dict[str, Any]

    def encode(self, seq: int, time: str) -> bytes:
        return encode_frame(self.kind, self.body | {"seq": seq, "time": time})


def commit_message(
    did: str,
    rev: str,
    commit: bytes,
    blocks: bytes,
    *,
    since: str | None = None,
    prev_data: bytes | None = None,
    ops: Sequence[CommitOp] = (),
) -> Message:
    """Return the message of a commit; `blocks` is a CAR whose root is `commit`.

    `since` and `prev_data` are None only for the first commit of a repo.
    """
    body: dict[str, Any] = {
        "rebase": False,
        "tooBig": False,
        "repo": did,
        "commit": Cid(commit),
        "rev": rev,
        "since": since,
        "blocks": blocks,
        "ops": [_op(op) for op in ops],
        "blobs": [],
    }
    if prev_data is not None:
        body["prevData"] = Cid(prev_data)
    return Message(COMMIT, body)


def sync_message(did: str, rev: str, blocks: bytes) -> Message:
    """Return the message of a repo's current commit, without its history."""
    return Message(SYNC, {"did": did, "blocks": blocks, "rev": rev})


def identity_message(did: str, handle: str) -> Message:
    """Return the message of a changed handle, key or host."""
    return Message(IDENTITY, {"did": did, "handle": handle})


def account_message(did: str, status: str) -> Message:
    """Return the message of a hosting status; only "active" is active."""
    if status == "active":
        return Message(ACCOUNT, {"did": did, "active": True})
    return Message(ACCOUNT, {"did": did, "active": False, "status": status})


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
