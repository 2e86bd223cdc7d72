"""Named places at which a test kills the process, to see what survives.

Off, a place is one call that returns at once; all are passed once a batch, a page or a
repo, never once a record. On only by the environment: `CRASH_AT=apply.written` kills
the process with SIGKILL when it gets there, `CRASH_AT=apply.written:3` the third time.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from typing import Final

VARIABLE: Final = "CRASH_AT"


class Crashpoint(StrEnum):
    """Every named place; each is passed at exactly one line of the code."""

    # A batch of verified events.
    DOUBTS_QUEUED = "pipeline.doubts_queued"
    APPLY_NAMED = "apply.named"
    APPLY_LOCKED = "apply.locked"
    APPLY_WRITTEN = "apply.written"
    APPLY_COUNTED = "apply.counted"
    CURSOR_SAVED = "cursor.saved"
    APPLY_COMMITTED = "apply.committed"

    # A whole repo.
    RESYNC_CLAIMED = "resync.claimed"
    RESYNC_FETCHING = "resync.fetching"
    RESYNC_DONE = "resync.done"
    CHECKOUT_MARKED = "checkout.marked"
    CHECKOUT_STAGED = "checkout.staged"
    CHECKOUT_COMPARED = "checkout.compared"
    CHECKOUT_DRAINED = "checkout.drained"
    CHECKOUT_SAVED = "checkout.saved"

    # Small repos, many at a time.
    BATCH_WRITTEN = "repo_batch.written"
    BATCH_SAVED = "repo_batch.saved"

    # A host's list of repos.
    LISTING_COMPARED = "listing.compared"
    LISTING_ADMITTED = "listing.admitted"
    LISTING_SAVED = "listing.saved"

    # Documents and handles that are looked at again.
    IDENTITY_CLAIMED = "identity.claimed"

    # The search engine.
    OUTBOX_TAKEN = "outbox.taken"
    OUTBOX_TOLD = "outbox.told"
    OUTBOX_CLEARED = "outbox.cleared"


class _Armed:
    """Which place, and how often it is still passed unharmed."""

    def __init__(self, text: str) -> None:
        name, _, times = text.partition(":")
        self.point = Crashpoint(name)
        self.left = int(times or 1)


_armed: _Armed | None = None


def arm(text: str) -> None:
    """Set the place, as the variable would. Raises ValueError for an unknown one."""
    global _armed
    _armed = _Armed(text)


def crashpoint(point: Crashpoint) -> None:
    """Die here, if that is asked for."""
    if _armed is None or point is not _armed.point:
        return
    _armed.left -= 1
    if _armed.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


if VARIABLE in os.environ:
    arm(os.environ[VARIABLE])
