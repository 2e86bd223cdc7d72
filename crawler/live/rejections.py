"""Rejections of messages: errors, and the reasons to count."""

from __future__ import annotations

from typing import Final

from protocol.errors import (
    InvalidEncodingError,
    InvalidRecordError,
    InvalidSignatureError,
    InvalidSyntaxError,
    InvalidTreeError,
    LimitExceededError,
    MissingBlockError,
    ProtocolError,
)
from protocol.events.drops import DropReason


class RejectedError(ProtocolError):
    """A message that proves nothing, and the reason."""

    def __init__(self, reason: DropReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MissingRecordError(MissingBlockError):
    """The commit is proven, but one of its records did not come with it.

    Its repo must be fetched, or the record would be lost.
    """


_REASONS: Final[tuple[tuple[type[ProtocolError], DropReason], ...]] = (
    (MissingRecordError, DropReason.MISSING_RECORD),
    (InvalidSignatureError, DropReason.BAD_SIGNATURE),
    (MissingBlockError, DropReason.MISSING_BLOCK),
    (InvalidTreeError, DropReason.BAD_TREE),
    (InvalidSyntaxError, DropReason.BAD_SYNTAX),
    (LimitExceededError, DropReason.FRAME_TOO_LARGE),
    (InvalidRecordError, DropReason.INVALID_RECORD),
    (InvalidEncodingError, DropReason.BAD_FRAME),
)

UNFOLLOWED: Final = frozenset(
    {
        DropReason.OPS_MISMATCH,
        DropReason.PREV_DATA_MISMATCH,
        DropReason.BAD_TREE,
        DropReason.TREE_TOO_LARGE,
        DropReason.MISSING_BLOCK,
        DropReason.MISSING_RECORD,
    }
)
"""Reasons of commits with a valid signature: only the repo tells the new state of its
account."""


def drop_reason(error: ProtocolError) -> DropReason:
    """Return the reason to count for a message that raised `error`."""
    if isinstance(error, RejectedError):
        return error.reason
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return DropReason.BAD_FRAME
