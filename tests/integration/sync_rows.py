"""The rows of the table of Sync 1.1: rule, story, and the expected state."""

from __future__ import annotations

from dataclasses import dataclass, field

from sync_line import NOW_US
from sync_stories import (
    DESYNCHRONIZED,
    FOREIGN,
    LIE,
    SYNCHRONIZED,
    Story,
    born,
    broken_tree,
    by_other,
    by_relay,
    changed,
    commit_changed,
    dated,
    empty,
    flipped,
    forged,
    from_before_the_rotation,
    hidden,
    high_s,
    homeless,
    keyless,
    large_record,
    lied_twice,
    message,
    missed,
    missed_empty,
    moved,
    numbered,
    ops_changed,
    renamed,
    replayed,
    rotated,
    synced,
    synced_backward,
    synced_elsewhere,
    synced_forward,
    taken_down_here,
    told,
    tombstoned,
    truncated,
    while_fetched,
    without_record,
)

from protocol.data.cid import Cid
from protocol.events.drops import DropReason
from protocol.limits import MAX_REV_AHEAD_US
from protocol.mst import EMPTY_ROOT
from protocol.syntax import tid_from_int


@dataclass(frozen=True)
class Row:
    """`drops` is reason -> count; `records` are those held afterwards."""

    rule: str
    name: str
    story: Story
    drops: dict[DropReason, int] = field(default_factory=dict)
    state: str = SYNCHRONIZED
    records: tuple[str, ...] = ("first",)
    status: str = "active"
    refreshes: int = 0


R = DropReason
ROWS = (
    # 1: sizes and syntax
    Row("syntax", "no-did", changed(repo=None), {R.BAD_SYNTAX: 1}),
    Row("syntax", "a-handle-for-a-did", changed(repo="a.test"), {R.BAD_SYNTAX: 1}),
    Row("syntax", "no-revision", changed(rev=None), {R.BAD_FIELD: 1}),
    Row("syntax", "a-revision-that-is-none", changed(rev="now"), {R.BAD_FIELD: 1}),
    Row("syntax", "since-that-is-no-revision", changed(since="x"), {R.BAD_FIELD: 1}),
    Row("syntax", "prev-data-that-is-no-link", changed(prevData=5), {R.BAD_FIELD: 1}),
    Row("syntax", "no-blocks", changed(blocks=None), {R.BAD_FIELD: 1}),
    Row("syntax", "no-operations", changed(ops=None), {R.BAD_FIELD: 1}),
    Row("syntax", "201-operations", changed(ops=[{}] * 201), {R.TOO_MANY_OPS: 1}),
    Row(
        "syntax",
        "blocks-over-2-mb",
        changed(blocks=bytes(2_000_001)),
        {R.BLOCKS_TOO_LARGE: 1},
    ),
    Row(
        "syntax",
        "sync-over-10-kb",
        message("#sync", rev=tid_from_int(NOW_US << 10), blocks=bytes(10_001)),
        {R.BLOCKS_TOO_LARGE: 1},
    ),
    Row("syntax", "seq-that-repeats", numbered(1), {R.BAD_SEQ: 1}),
    Row("syntax", "seq-out-of-range", numbered(2**53), {R.BAD_SEQ: 1}),
    # 2: who may speak
    Row("host", "another-host", by_other, {R.WRONG_HOST: 4}, refreshes=1),
    Row("host", "a-relay-of-our-choice", by_relay, records=("first", "second")),
    Row(
        "host",
        "an-account-that-moved",
        moved,
        {R.WRONG_HOST: 2},
        DESYNCHRONIZED,
        refreshes=2,
    ),
    Row("host", "a-document-without-a-host", homeless, {R.WRONG_HOST: 2}, refreshes=1),
    Row(
        "host",
        "a-did-given-up",
        tombstoned,
        {R.WRONG_HOST: 1},
        status="deleted",
        refreshes=1,
    ),
    # 3: the account is active
    Row(
        "account",
        "deactivated",
        told((False, "deactivated"), then="second"),
        {R.INACTIVE_ACCOUNT: 1},
        status="deactivated",
    ),
    Row(
        "account",
        "inactive-without-a-word",
        told((False, None), then="second"),
        {R.INACTIVE_ACCOUNT: 1},
        status="inactive",
    ),
    Row(
        "account",
        "inactive-by-an-unknown-word",
        told((False, "abducted"), then="second"),
        {R.INACTIVE_ACCOUNT: 1},
        status="inactive",
    ),
    Row(
        "account",
        "inactive-and-throttled",
        told((False, "throttled"), then="second"),
        {R.INACTIVE_ACCOUNT: 1},
        status="throttled",
    ),
    Row(
        "account",
        "active-and-throttled",
        told((True, "throttled"), then="second"),
        records=("first", "second"),
    ),
    Row(
        "account",
        "active-and-deleted",
        told((True, "deleted"), then="second"),
        records=("first", "second"),
    ),
    Row(
        "account",
        "back-again",
        told((False, "deactivated"), (True, None), then="second"),
        {R.DESYNCHRONIZED: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "account",
        "active-that-is-no-bool",
        message("#account", active=1),
        {R.BAD_FIELD: 1},
    ),
    Row("account", "active-left-out", message("#account"), {R.BAD_FIELD: 1}),
    Row(
        "account",
        "status-that-is-no-text",
        message("#account", active=False, status=5),
        {R.BAD_FIELD: 1},
    ),
    Row(
        "account",
        "taken-down-by-ourselves",
        taken_down_here,
        {},
        DESYNCHRONIZED,
        records=("first", "second"),
    ),
    # 4: the revision
    Row(
        "revision", "replayed", replayed, {R.STALE_REV: 2}, records=("first", "second")
    ),
    Row(
        "revision",
        "five-minutes-ahead",
        dated(MAX_REV_AHEAD_US),
        records=("first", "second"),
    ),
    Row("revision", "a-moment-further", dated(MAX_REV_AHEAD_US + 1), {R.FUTURE_REV: 1}),
    # 5: file, commit and message agree
    Row("commit", "a-flipped-bit", flipped, {R.BAD_CAR: 1}),
    Row("commit", "no-car-at-all", changed(blocks=b"?"), {R.BAD_CAR: 1}),
    Row(
        "commit",
        "not-the-root",
        changed(commit=Cid(EMPTY_ROOT)),
        {R.COMMIT_MISMATCH: 1},
    ),
    Row(
        "commit",
        "another-revision",
        changed(rev=tid_from_int(NOW_US << 10)),
        {R.COMMIT_MISMATCH: 1},
    ),
    Row(
        "commit",
        "of-another-account",
        commit_changed(did=FOREIGN),
        {R.COMMIT_MISMATCH: 1},
    ),
    Row("commit", "of-version-2", commit_changed(version=2), {R.BAD_COMMIT: 1}),
    Row(
        "commit", "with-more-fields", commit_changed(zed=1), records=("first", "second")
    ),
    # 6: the signature
    Row(
        "signature",
        "a-rotated-key",
        rotated,
        {R.BAD_SIGNATURE: 1},
        DESYNCHRONIZED,
        refreshes=1,
    ),
    Row(
        "signature",
        # The second frame gets the early refresh.
        "a-wrong-key",
        forged,
        {R.BAD_SIGNATURE: 2},
        DESYNCHRONIZED,
        refreshes=2,
    ),
    Row(
        "signature",
        "a-high-s",
        high_s,
        {R.BAD_SIGNATURE: 1},
        DESYNCHRONIZED,
        refreshes=1,
    ),
    Row(
        "signature",
        "from-before-the-rotation",
        from_before_the_rotation,
        {R.STALE_REV: 2},
        DESYNCHRONIZED,
    ),
    Row(
        "signature",
        "no-key",
        keyless,
        {R.BAD_SIGNATURE: 1, R.NO_SIGNING_KEY: 1},
        DESYNCHRONIZED,
        refreshes=2,
    ),
    # 7: structure
    Row("tree", "a-node-that-is-none", broken_tree, {R.BAD_TREE: 1}, DESYNCHRONIZED),
    Row("tree", "no-nodes", truncated, {R.MISSING_BLOCK: 1}, DESYNCHRONIZED),
    # 8: operations against the tree
    Row(
        "operations",
        "another-record",
        ops_changed(lambda ops: ops[0].update(cid=LIE)),
        {R.OPS_MISMATCH: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "operations",
        "one-twice",
        ops_changed(lambda ops: ops.append(ops[0])),
        {R.OPS_MISMATCH: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "operations",
        "a-create-with-prev",
        ops_changed(lambda ops: ops[0].update(prev=LIE)),
        {R.OPS_MISMATCH: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "operations",
        "an-unknown-action",
        ops_changed(lambda ops: ops[0].update(action="move")),
        {R.BAD_FIELD: 1},
    ),
    Row(
        "operations",
        "a-record-that-is-not-there",
        without_record,
        {R.MISSING_RECORD: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "operations",
        "records-that-cannot-be-kept",
        large_record,
        {R.RECORD_TOO_LARGE: 1, R.BAD_PATH: 1},
        records=("first", "second"),
    ),
    # 9: undoing them
    Row(
        "inversion",
        "one-left-out",
        ops_changed(lambda ops: ops.pop()),
        {R.PREV_DATA_MISMATCH: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "inversion",
        "another-root-before",
        changed(prevData=Cid(EMPTY_ROOT)),
        {R.PREV_DATA_MISMATCH: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "inversion",
        "the-same-lie-again",
        lied_twice,
        {R.PREV_DATA_MISMATCH: 1, R.STALE_REV: 1},
        DESYNCHRONIZED,
    ),
    # 10: the chain
    Row("chain", "a-commit-hidden", hidden, {R.DESYNCHRONIZED: 1}, DESYNCHRONIZED),
    Row("chain", "a-commit-missed", missed, {R.DESYNCHRONIZED: 2}, DESYNCHRONIZED),
    Row(
        "chain",
        "an-empty-one-missed",
        missed_empty,
        {R.DESYNCHRONIZED: 1},
        DESYNCHRONIZED,
    ),
    Row(
        "chain",
        "no-prev-data",
        changed(prevData=None),
        {R.DESYNCHRONIZED: 1},
        DESYNCHRONIZED,
    ),
    Row("chain", "no-since", changed(since=None), records=("first", "second")),
    Row("chain", "while-the-repo-is-fetched", while_fetched, state="resyncing"),
    Row("chain", "an-empty-commit", empty, records=("first", "second")),
    Row("chain", "the-first-commit", born),
    # #sync
    Row("#sync", "where-we-stand", synced),
    Row(
        "#sync",
        "somewhere-else",
        synced_elsewhere,
        {R.DESYNCHRONIZED: 1},
        DESYNCHRONIZED,
    ),
    Row("#sync", "a-new-revision-only", synced_forward, records=("first", "second")),
    Row("#sync", "an-older-revision", synced_backward, records=("first", "second")),
    # #identity and unknown events
    Row("#identity", "a-handle", renamed),
    Row("#identity", "a-handle-that-is-none", message("#identity", handle=5)),
    Row(
        "deprecated",
        "too-big-rebase-blobs",
        changed(tooBig=True, rebase=True, blobs="?"),
        records=("first", "second"),
    ),
    Row(
        "unknown", "#handle", message("#handle", handle="a.test"), {R.UNKNOWN_EVENT: 1}
    ),
    Row("unknown", "#tombstone", message("#tombstone"), {R.UNKNOWN_EVENT: 1}),
    Row("unknown", "a-kind-of-tomorrow", message("#tomorrow"), {R.UNKNOWN_EVENT: 1}),
    Row("unknown", "more-fields", changed(tomorrow=[1]), records=("first", "second")),
)
