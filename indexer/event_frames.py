"""The frame by which an event is sent on: as it came, or made of what it says."""

from __future__ import annotations

from datetime import datetime

from protocol.events import AccountEvent, CommitEvent, Event, SyncEvent
from protocol.sequenced_frames import (
    MAX_RENUMBERED_BYTES,
    account_frame,
    identity_frame,
    sync_frame,
)


def frame_of(event: Event, now: datetime) -> bytes:
    """The frame of an event that was applied; its number is not ours yet.

    A commit without its frame, or with one that is too large to get another number,
    is told of by where it left the repo.
    """
    if event.frame is not None and len(event.frame) <= MAX_RENUMBERED_BYTES:
        return event.frame
    time = utc_text(now)
    if isinstance(event, CommitEvent | SyncEvent):
        return sync_frame(event.did, event.rev, event.commit, time)
    if isinstance(event, AccountEvent):
        return account_frame(event.did, event.active, event.status, time)
    return identity_frame(event.did, event.handle, time)


def utc_text(now: datetime) -> str:
    """The time of a frame, to the millisecond."""
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
