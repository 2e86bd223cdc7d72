"""String formats by the names that lexicons give them (specs/lexicon)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from protocol.syntax import (
    is_at_identifier,
    is_at_uri,
    is_cid_text,
    is_datetime,
    is_did,
    is_handle,
    is_language,
    is_nsid,
    is_record_key,
    is_tid,
    is_uri,
)

FORMATS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "at-identifier": is_at_identifier,
        "at-uri": is_at_uri,
        "cid": is_cid_text,
        "datetime": is_datetime,
        "did": is_did,
        "handle": is_handle,
        "language": is_language,
        "nsid": is_nsid,
        "record-key": is_record_key,
        "tid": is_tid,
        "uri": is_uri,
    }
)
