"""Identifiers and string formats, validated where input enters."""

from __future__ import annotations

from protocol.syntax.at_uri import AtUri, is_at_uri, is_space_uri, parse_at_uri
from protocol.syntax.datetime import datetime_from_us, datetime_us, is_datetime
from protocol.syntax.did import Did, did_method, is_did, is_plc_did, parse_did
from protocol.syntax.handle import (
    INVALID_HANDLE,
    Handle,
    is_handle,
    is_resolvable_handle,
    normalize_handle,
    parse_handle,
)
from protocol.syntax.nsid import Nsid, is_nsid, parse_nsid
from protocol.syntax.record_key import RecordKey, is_record_key, parse_path
from protocol.syntax.string_formats import (
    is_at_identifier,
    is_cid_text,
    is_language,
    is_uri,
)
from protocol.syntax.tid import (
    Tid,
    TidClock,
    is_tid,
    parse_tid,
    tid_from_int,
    tid_time_us,
    tid_to_int,
)

__all__ = [
    "INVALID_HANDLE",
    "AtUri",
    "Did",
    "Handle",
    "Nsid",
    "RecordKey",
    "Tid",
    "TidClock",
    "datetime_from_us",
    "datetime_us",
    "did_method",
    "is_at_identifier",
    "is_at_uri",
    "is_cid_text",
    "is_datetime",
    "is_did",
    "is_handle",
    "is_language",
    "is_nsid",
    "is_plc_did",
    "is_record_key",
    "is_resolvable_handle",
    "is_space_uri",
    "is_tid",
    "is_uri",
    "normalize_handle",
    "parse_at_uri",
    "parse_did",
    "parse_handle",
    "parse_nsid",
    "parse_path",
    "parse_tid",
    "tid_from_int",
    "tid_time_us",
    "tid_to_int",
]
