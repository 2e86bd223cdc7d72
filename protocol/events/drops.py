"""Reasons for dropping a frame, an operation or a record."""

from __future__ import annotations

from enum import StrEnum


class DropReason(StrEnum):
    """A reason for dropping input; each value is a metric label."""

    # A frame.
    FRAME_TOO_LARGE = "frame_too_large"
    BAD_FRAME = "bad_frame"
    BAD_SEQ = "bad_seq"
    UNKNOWN_EVENT = "unknown_event"
    BAD_FIELD = "bad_field"
    BAD_SYNTAX = "bad_syntax"

    # Its host or its account.
    OUT_OF_SCOPE = "out_of_scope"
    WRONG_HOST = "wrong_host"
    UNKNOWN_ACCOUNT = "unknown_account"
    INACTIVE_ACCOUNT = "inactive_account"
    UNRESOLVED_IDENTITY = "unresolved_identity"
    HOST_BUDGET = "host_budget"
    THROTTLED = "throttled"

    # A commit or a sync message.
    STALE_REV = "stale_rev"
    FUTURE_REV = "future_rev"
    TOO_MANY_OPS = "too_many_ops"
    BLOCKS_TOO_LARGE = "blocks_too_large"
    BAD_CAR = "bad_car"
    BAD_COMMIT = "bad_commit"
    COMMIT_MISMATCH = "commit_mismatch"
    NO_SIGNING_KEY = "no_signing_key"
    BAD_SIGNATURE = "bad_signature"
    BAD_TREE = "bad_tree"
    TREE_TOO_LARGE = "tree_too_large"
    OPS_MISMATCH = "ops_mismatch"
    PREV_DATA_MISMATCH = "prev_data_mismatch"
    MISSING_BLOCK = "missing_block"
    DESYNCHRONIZED = "desynchronized"

    # One operation or record of a valid commit or repo.
    BAD_PATH = "bad_path"
    MISSING_RECORD = "missing_record"
    RECORD_TOO_LARGE = "record_too_large"
    RECORD_TOO_DEEP = "record_too_deep"
    BAD_RECORD_ENCODING = "bad_record_encoding"
    BAD_RECORD_TYPE = "bad_record_type"
    INVALID_RECORD = "invalid_record"
    UNSTORABLE_RECORD = "unstorable_record"

    # Set aside so that the stream can continue.
    QUARANTINED = "quarantined"
