"""One frame at the gate: decoded, in its place in the stream, proven in groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from crawler.live import rejections, verify
from crawler.live.gate_result import GateResult
from crawler.live.stream_state import Fault, StreamState
from crawler.settings import MIB
from protocol.errors import ProtocolError
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, SyncEvent
from protocol.events.frames import ERROR_OP, INFO, MESSAGE_OP, decode_frame
from protocol.events.known_fields import is_plain, plain_commit
from protocol.events.sequenced_frames import utc_text
from protocol.identity.keys import PublicKey
from protocol.limits import MAX_COMMIT_OPS, MAX_SEQ
from protocol.syntax.did import Did, is_did
from storage.states import STATUS_ACTIVE

COMMIT: Final = "#commit"
SYNC: Final = "#sync"
IDENTITY: Final = "#identity"
ACCOUNT: Final = "#account"
OUTDATED_CURSOR: Final = "OutdatedCursor"
_DELETE: Final = "delete"
_MAX_STATUS: Final = 64

# The fields that are read of a message, and of an operation.
_FIELDS: Final = frozenset(
    (
        *("seq", "time", "did", "repo", "rev", "since", "prevData", "blocks"),
        *("commit", "handle", "active", "status"),
    )
)
_OP_FIELDS: Final = frozenset(("path", "action", "cid", "prev"))
_CONTAINERS: Final = frozenset((list, dict))
_UNUSED: Final = ()
"""Replaces a misplaced list or map; it is rejected in the same way."""

# The blocks of a group are held at the same time.
_GROUP_BYTES: Final = MIB


@dataclass(slots=True)
class GateFrame:
    """A message of an account, its number accepted and nothing of it proven."""

    stream: StreamState
    t: str
    did: Did
    seq: int
    body: dict[str, Any]
    raw: bytes
    # It holds only fields that the lexicon knows.
    plain: bool = True
    # Outcome of proving it, and the key it was proven with.
    proof: CommitEvent | SyncEvent | Exception | None = None
    proven_by: PublicKey | None = None
    # Its account is over its commit budget: it is not proven.
    throttled: bool = False

    @property
    def account_status(self) -> str | None:
        """Return the status that a well-formed #account frame tells of."""
        active, status = self.body.get("active"), self.body.get("status")
        if self.t != ACCOUNT or type(active) is not bool:
            return None
        if not (status is None or type(status) is str):
            return None
        return STATUS_ACTIVE if active else (status or "inactive")[:_MAX_STATUS]

    @property
    def is_badly_signed(self) -> bool:
        """Return True if the signature did not fit the key it was checked with."""
        error = self.proof
        return (
            isinstance(error, ProtocolError)
            and rejections.drop_reason(error) is DropReason.BAD_SIGNATURE
        )

    def written_paths(self) -> Sequence[Any] | None:
        """Return the paths that a commit claims to write, unchecked; None for other
        frames."""
        ops = self.body.get("ops")
        if self.t != COMMIT or type(ops) is not list:
            return None
        return [
            op.get("path")
            for op in ops
            if type(op) is dict and op.get("action") != _DELETE
        ]

    def to_send(self, now_us: int) -> bytes | None:
        """Return the frame to rebroadcast: as it came, if it holds only known fields.
        None: a frame of our own must be made."""
        if self.plain:
            return self.raw
        if self.t != COMMIT:
            return None
        return plain_commit(
            self.raw, utc_text(datetime.fromtimestamp(now_us / 1_000_000, UTC))
        )


def read_frame(
    stream: StreamState, raw: bytes, result: GateResult, *, bad_seqs_allowed: int
) -> GateFrame | None:
    """Decode a frame and advance the stream's position.

    Return None for a frame that concerns no account, or is malformed; the latter is
    counted and may end the stream.
    """
    try:
        frame = decode_frame(raw)
    except ProtocolError as error:
        result.drops[DropReason.BAD_FRAME, stream.host] += 1
        stream.fail(Fault.BAD_FRAME, str(error))
        return None
    if frame.op == ERROR_OP:
        stream.fail(Fault.ERROR, str(frame.body["error"])[:64])
        return None
    if frame.op != MESSAGE_OP or frame.t is None or type(frame.body) is not dict:
        result.drops[DropReason.UNKNOWN_EVENT, stream.host] += 1
        return None
    t, body = frame.t, frame.body
    if t == INFO:
        if body.get("name") == OUTDATED_CURSOR:
            result.outdated.add(stream.host)
        return None
    seq = body.get("seq")
    if type(seq) is not int or not 0 < seq <= MAX_SEQ or seq <= stream.last_seq:
        # Some hosts repeat the frame at the cursor.
        if seq != stream.resumed_at:
            result.drops[DropReason.BAD_SEQ, stream.host] += 1
            stream.bad_seqs += 1
            if stream.bad_seqs >= bad_seqs_allowed:
                stream.fail(Fault.BAD_SEQ, f"seq {seq} after {stream.last_seq}")
        return None
    stream.last_seq = seq
    time_text = body.get("time")
    if type(time_text) is str:
        stream.newest = time_text
    if t not in (COMMIT, SYNC, IDENTITY, ACCOUNT):
        result.drops[DropReason.UNKNOWN_EVENT, stream.host] += 1
        return None
    did = body.get("repo" if t == COMMIT else "did")
    if type(did) is not str or not is_did(did):
        result.drops[DropReason.BAD_SYNTAX, stream.host] += 1
        return None
    plain = is_plain(raw, t, body)
    return GateFrame(stream, t, Did(did), seq, _kept_fields(body), raw, plain)


def _kept_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a message that are read later. Decoded, the others may take
    seventy times their bytes."""
    kept = _flat(body, _FIELDS)
    ops = body.get("ops")
    if type(ops) is list:
        kept["ops"] = [
            _flat(op, _OP_FIELDS)
            if type(op) is dict
            else _UNUSED
            if type(op) is list
            else op
            # One too many is rejected like all of them.
            for op in ops[: MAX_COMMIT_OPS + 1]
        ]
    return kept


def _flat(fields: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {
        name: _UNUSED if type(value) in _CONTAINERS else value
        for name, value in fields.items()
        if name in names
    }


def prove_frames(ready: Iterable[tuple[GateFrame, PublicKey]], now_us: int) -> None:
    """Prove commits in groups and syncs, each by its key; store the outcomes in the
    frames."""
    commits: list[tuple[GateFrame, PublicKey]] = []
    for frame, key in ready:
        frame.proven_by = key
        if frame.t == COMMIT:
            commits.append((frame, key))
            continue
        try:
            host = frame.stream.host
            frame.proof = verify.verify_sync(frame.body, key, now_us, host=host)
        except Exception as error:  # judged with the frame
            frame.proof = error
    for group in _groups(commits):
        results = verify.verify_commits(
            [(frame.body, key, frame.stream.host) for frame, key in group], now_us
        )
        for (frame, _), outcome in zip(group, results, strict=True):
            frame.proof = outcome


def _groups(
    ready: Iterable[tuple[GateFrame, PublicKey]],
) -> Iterator[list[tuple[GateFrame, PublicKey]]]:
    group: list[tuple[GateFrame, PublicKey]] = []
    size = 0
    for one in ready:
        group.append(one)
        size += len(one[0].raw)
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
