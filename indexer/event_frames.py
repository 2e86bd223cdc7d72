"""Frames that rebroadcast an event: the original, or one made of its contents."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from protocol.errors import ProtocolError
from protocol.events.event import AccountEvent, CommitEvent, Event, SyncEvent
from protocol.events.known_fields import MAX_STATUS_CHARS
from protocol.events.sequenced_frames import (
    MAX_RENUMBERED_BYTES,
    account_frame,
    identity_frame,
    renumber,
    sync_frame,
    utc_text,
)
from protocol.limits import MAX_SEQ

_MOST_UNSIGNED_BYTES: Final = 16_384
"""Maximum size of a rebroadcast frame other than a commit. Usual ones have some
hundred bytes; the rest would be unknown fields."""


def frame_of(event: Event, now: datetime) -> bytes:
    """Return the frame of an applied event; its sequence number is still the
    upstream's.

    A commit whose frame is missing or cannot be renumbered becomes a `#sync` of the
    repo's new head.
    """
    most = MAX_RENUMBERED_BYTES
    if not isinstance(event, CommitEvent):
        most = _MOST_UNSIGNED_BYTES
    if event.frame is not None and _can_be_numbered(event.frame, most):
        return event.frame
    time = utc_text(now)
    if isinstance(event, CommitEvent | SyncEvent):
        return sync_frame(event.did, event.rev, event.commit, time)
    if isinstance(event, AccountEvent):
        status = event.status
        if status is not None and len(status) > MAX_STATUS_CHARS:
            status = None
        return account_frame(event.did, event.active, status, time)
    return identity_frame(event.did, event.handle, time)


def messages_of(event: Event, frame: bytes) -> int:
    """Return the maximum number of Jetstream messages for an event with this frame."""
    if isinstance(event, CommitEvent) and frame is event.frame:
        return len(event.ops) + len(event.drops)
    return 1


def _can_be_numbered(frame: bytes, most: int) -> bool:
    """Return True if our stream can send the frame: its encoding must survive
    renumbering."""
    if len(frame) > most:
        return False
    try:
        renumber(frame, MAX_SEQ)
    except ProtocolError:
        return False
    return True
