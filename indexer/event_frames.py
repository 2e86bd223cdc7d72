"""The frame by which an event is sent on: as it came, or made of what it says."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from protocol.errors import ProtocolError
from protocol.events.event import (
    AccountEvent,
    CommitEvent,
    Event,
    SyncEvent,
)
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
"""Of a frame that is no commit and is sent on as it came. An honest one has some
hundreds; the rest are fields that nobody knows, sent on to everybody who follows us."""


def frame_of(event: Event, now: datetime) -> bytes:
    """The frame of an event that was applied; its number is not ours yet.

    A commit without its frame, or with one that cannot get another number, is told of
    by where it left the repo.
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
    """How many messages Jetstream may tell of an event with this frame: one for each
    operation that it names, kept or not."""
    if isinstance(event, CommitEvent) and frame is event.frame:
        return len(event.ops) + len(event.drops)
    return 1


def _can_be_numbered(frame: bytes, most: int) -> bool:
    """Whether our stream can send it: what was read to be verified may be written in
    ways that are not read again."""
    if len(frame) > most:
        return False
    try:
        renumber(frame, MAX_SEQ)
    except ProtocolError:
        return False
    return True
