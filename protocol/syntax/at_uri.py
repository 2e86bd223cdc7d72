"""AT-URIs as lexicons use them: without query and fragment (specs/at-uri-scheme)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from protocol.errors import InvalidSyntaxError
from protocol.limits import (
    MAX_AT_URI_CHARS,
    MAX_DID_CHARS,
    MAX_HANDLE_CHARS,
    MAX_NSID_CHARS,
)
from protocol.syntax.did import DID_PATTERN, Did
from protocol.syntax.handle import HANDLE_PATTERN, Handle
from protocol.syntax.nsid import NSID_PATTERN, Nsid
from protocol.syntax.record_key import RECORD_KEY_PATTERN, RecordKey

_SCHEME = "at://"
_AT_URI = re.compile(
    f"{_SCHEME}(?:({DID_PATTERN})|({HANDLE_PATTERN}))"
    f"(?:/({NSID_PATTERN})(?:/({RECORD_KEY_PATTERN}))?)?",
    re.ASCII,
)
# at://DID/space/TYPE/KEY, and what follows: data that only members of a space may see.
_SPACE: Final = re.compile(
    f"{_SCHEME}(?:{DID_PATTERN})/space/(?:{NSID_PATTERN})/(?:{RECORD_KEY_PATTERN})"
    "(?:/[^?#]*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class AtUri:
    """The address of a repo, a collection or a record; absent parts are None."""

    authority: Did | Handle
    collection: Nsid | None = None
    rkey: RecordKey | None = None

    def __str__(self) -> str:
        if self.collection is None:
            return f"{_SCHEME}{self.authority}"
        if self.rkey is None:
            return f"{_SCHEME}{self.authority}/{self.collection}"
        return f"{_SCHEME}{self.authority}/{self.collection}/{self.rkey}"


def _match(text: str) -> re.Match[str] | None:
    if len(text) > MAX_AT_URI_CHARS:
        return None
    match = _AT_URI.fullmatch(text)
    # Only a long URI can have a part that is too long.
    if match is None or len(text) <= MAX_HANDLE_CHARS:
        return match
    did, handle, collection = match.group(1, 2, 3)
    if (
        len(did or "") > MAX_DID_CHARS
        or len(handle or "") > MAX_HANDLE_CHARS
        or len(collection or "") > MAX_NSID_CHARS
    ):
        return None
    return match


def is_at_uri(text: str) -> bool:
    return _match(text) is not None


def is_space_uri(text: str) -> bool:
    """Return True for the address of permissioned data, which is no AT-URI here."""
    return len(text) <= MAX_AT_URI_CHARS and _SPACE.fullmatch(text) is not None


def parse_at_uri(text: str) -> AtUri:
    """Split an AT-URI; raise InvalidSyntaxError."""
    match = _match(text)
    if match is None:
        raise InvalidSyntaxError(f"not an AT-URI: {text[:80]!r}")
    did, handle, collection, rkey = match.group(1, 2, 3, 4)
    return AtUri(
        Did(did) if did is not None else Handle(handle),
        Nsid(collection) if collection is not None else None,
        RecordKey(rkey) if rkey is not None else None,
    )
