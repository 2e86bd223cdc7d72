"""String formats by their names in lexicons (specs/lexicon)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from protocol.limits import (
    MAX_AT_URI_CHARS,
    MAX_CID_TEXT_CHARS,
    MAX_DATETIME_CHARS,
    MAX_DID_CHARS,
    MAX_HANDLE_CHARS,
    MAX_LANGUAGE_CHARS,
    MAX_NSID_CHARS,
    MAX_RECORD_KEY_CHARS,
    MAX_URI_CHARS,
)
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


class Format(NamedTuple):
    check: Callable[[str], bool]
    max_chars: int


FORMATS: Final[Mapping[str, Format]] = {
    "at-identifier": Format(is_at_identifier, MAX_DID_CHARS),
    "at-uri": Format(is_at_uri, MAX_AT_URI_CHARS),
    "cid": Format(is_cid_text, MAX_CID_TEXT_CHARS),
    "datetime": Format(is_datetime, MAX_DATETIME_CHARS),
    "did": Format(is_did, MAX_DID_CHARS),
    "handle": Format(is_handle, MAX_HANDLE_CHARS),
    "language": Format(is_language, MAX_LANGUAGE_CHARS),
    "nsid": Format(is_nsid, MAX_NSID_CHARS),
    "record-key": Format(is_record_key, MAX_RECORD_KEY_CHARS),
    "tid": Format(is_tid, 13),
    "uri": Format(is_uri, MAX_URI_CHARS),
}
