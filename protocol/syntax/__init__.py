"""Identifiers and string formats: checked at the edge, trusted inside."""

from __future__ import annotations

from protocol.syntax.at_identifier import is_at_identifier, parse_at_identifier
from protocol.syntax.at_uri import AtUri, is_at_uri, parse_at_uri
from protocol.syntax.cid_text import CidText, is_cid_text, parse_cid_text
from protocol.syntax.datetime import (
    Datetime,
    datetime_from_us,
    datetime_us,
    is_datetime,
    parse_datetime,
)
from protocol.syntax.did import Did, did_method, is_did, is_plc_did, parse_did
from protocol.syntax.handle import (
    INVALID_HANDLE,
    Handle,
    is_handle,
    is_resolvable_handle,
    normalize_handle,
    parse_handle,
)
from protocol.syntax.language import Language, is_language, parse_language
from protocol.syntax.nsid import Nsid, is_nsid, nsid_authority, parse_nsid
from protocol.syntax.record_key import (
    RecordKey,
    is_record_key,
    parse_path,
    parse_record_key,
)
from protocol.syntax.tid import (
    Tid,
    TidClock,
    is_tid,
    last_tid_at,
    parse_tid,
    tid_from_int,
    tid_of_bits,
    tid_time_us,
    tid_to_int,
)
from protocol.syntax.uri import Uri, is_uri, parse_uri

__all__ = [
    "INVALID_HANDLE",
    "AtUri",
    "CidText",
    "Datetime",
    "Did",
    "Handle",
    "Language",
    "Nsid",
    "RecordKey",
    "Tid",
    "TidClock",
    "Uri",
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
    "is_tid",
    "is_uri",
    "last_tid_at",
    "normalize_handle",
    "nsid_authority",
    "parse_at_identifier",
    "parse_at_uri",
    "parse_cid_text",
    "parse_datetime",
    "parse_did",
    "parse_handle",
    "parse_language",
    "parse_nsid",
    "parse_path",
    "parse_record_key",
    "parse_tid",
    "parse_uri",
    "tid_from_int",
    "tid_of_bits",
    "tid_time_us",
    "tid_to_int",
]
