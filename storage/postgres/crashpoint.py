"""Named points at which a test kills the process.

`CRASH_AT=apply.written` kills the process with SIGKILL at that point,
`CRASH_AT=apply.written:3` the third time. Otherwise a point is one call that returns at
once, passed once a batch, page or repo, never once a record.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from typing import Final

VARIABLE: Final = "CRASH_AT"


class Crashpoint(StrEnum):
    """Every named point; each is passed at exactly one line of the code."""

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

    # Documents and handles that are refreshed.
    IDENTITY_CLAIMED = "identity.claimed"

    # The search engine.
    OUTBOX_TAKEN = "outbox.taken"
    OUTBOX_TOLD = "outbox.told"
    OUTBOX_MATCHED = "outbox.matched"
    OUTBOX_CLEARED = "outbox.cleared"

    # The repos, blobs and accounts of a PDS.
    PDS_WRITE_LOCKED = "pds.write_locked"
    PDS_WRITE_SIGNED = "pds.write_signed"
    PDS_WRITE_STORED = "pds.write_stored"
    PDS_WRITE_APPENDED = "pds.write_appended"
    PDS_WRITE_COMMITTED = "pds.write_committed"
    PDS_UPLOAD_STORED = "pds.upload_stored"
    PDS_UPLOAD_COMMITTED = "pds.upload_committed"
    PDS_IMPORT_LOCKED = "pds.import_locked"
    PDS_IMPORT_STAGED = "pds.import_staged"
    PDS_IMPORT_BUILT = "pds.import_built"
    PDS_IMPORT_REPLACED = "pds.import_replaced"
    PDS_IMPORT_APPENDED = "pds.import_appended"
    PDS_IMPORT_COMMITTED = "pds.import_committed"
    PDS_ACCOUNT_REGISTERED = "pds.account_registered"
    PDS_ACCOUNT_STORED = "pds.account_stored"
    PDS_ACCOUNT_APPENDED = "pds.account_appended"
    PDS_ACCOUNT_COMMITTED = "pds.account_committed"
    PDS_ACCOUNT_ERASED = "pds.account_erased"


class _Armed:
    """The armed point, and the number of passes left."""

    def __init__(self, text: str) -> None:
        name, _, times = text.partition(":")
        self.point = Crashpoint(name)
        self.left = int(times or 1)


_armed: _Armed | None = None


def arm(text: str) -> None:
    """Arm a point, as the variable does. Raises ValueError for an unknown one."""
    global _armed
    _armed = _Armed(text)


def crashpoint(point: Crashpoint) -> None:
    """Kill the process if this point is armed."""
    if _armed is None or point is not _armed.point:
        return
    _armed.left -= 1
    if _armed.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


if VARIABLE in os.environ:
    arm(os.environ[VARIABLE])
