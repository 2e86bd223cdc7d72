"""The frame by which an event is sent on: as it came, or made of what it says."""

from __future__ import annotations

from datetime import datetime

from protocol.errors import ProtocolError
from protocol.events import AccountEvent, CommitEvent, Event, SyncEvent
from protocol.limits import MAX_SEQ
from protocol.sequenced_frames import (
    MAX_RENUMBERED_BYTES,
    account_frame,
    identity_frame,
    renumber,
    sync_frame,
)


def frame_of(event: Event, now: datetime) -> bytes:
    """The frame of an event that was applied; its number is not ours yet.

    A commit without its frame, or with one that cannot get another number, is told of
    by where it left the repo.
    """
    if event.frame is not None and _can_be_numbered(event.frame):
        return event.frame
    time = utc_text(now)
    if isinstance(event, CommitEvent | SyncEvent):
        return sync_frame(event.did, event.rev, event.commit, time)
    if isinstance(event, AccountEvent):
        return account_frame(event.did, event.active, event.status, time)
    return identity_frame(event.did, event.handle, time)


def messages_of(event: Event, frame: bytes) -> int:
    """How many messages Jetstream may tell of an event with this frame: one for each
    operation that it names, kept or not."""
    if isinstance(event, CommitEvent) and frame is event.frame:
        return len(event.ops) + len(event.drops)
    return 1


def _can_be_numbered(frame: bytes) -> bool:
    """Whether our stream can send it: what was read to be verified may be written in
    ways that are not read again."""
    if len(frame) > MAX_RENUMBERED_BYTES:
        return False
    try:
        renumber(frame, MAX_SEQ)
    except ProtocolError:
        return False
    return True


def utc_text(now: datetime) -> str:
    """The time of a frame, to the millisecond."""
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
