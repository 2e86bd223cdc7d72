"""Links of a record at any path: an AT-URI with a DID, a DID or a web address.

Pure functions. A handle in an AT-URI proves nothing and makes no link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from protocol.syntax import is_did, is_nsid, is_record_key
from storage.collections import COLLECTION_IDS
from storage.records.web_urls import url_number

MAX_LINKS: Final = 1_000
"""Maximum indexed links of one record; a megabyte could name 20,000 accounts."""

_MAX_STEP_CHARS: Final = 64
_ANY_STEP: Final = ".*"
# The usual form of a reference; all others are parsed in full.
_USUAL_URI: Final = re.compile(
    r"at://(did:plc:[a-z2-7]{24})/([a-zA-Z.]{5,60})/([a-z2-7]{13}|self)", re.ASCII
)

# The first four letters of every link.
_WEB: Final = "http"
_STARTS: Final = frozenset(("at:/", "did:", _WEB))
_MAX_URL_CHARS: Final = 8_192

Target = tuple[str, str | None, str | None]
"""DID, collection, record key: a record; or a collection or an account (None)."""
Link = tuple[int | str, str, str | None, str | int | None]
"""Path (its id if known already), then the target. A web address has no DID, and its
`url_number` instead of a record key."""


def parse_link(text: str) -> Target | None:
    """Return the target of an AT-URI with a DID, or of a DID; else None."""
    usual = _USUAL_URI.fullmatch(text)
    if usual is not None and usual[2] in COLLECTION_IDS:
        did, nsid, rkey = usual.groups()
        return did, nsid, rkey
    if text.startswith("at://"):
        return _parse_uri(text)
    if text.startswith("did:") and is_did(text):
        return text, None, None
    return None


def is_web_url(text: str) -> bool:
    """Return True for a web address that is indexed as a link."""
    return (
        text.startswith(("http://", "https://"))
        and 8 < len(text) <= _MAX_URL_CHARS
        and " " not in text
        and "\n" not in text
    )


def may_link(raw: bytes) -> bool:
    """Return False if a record's bytes cannot hold a link."""
    return b"at://" in raw or b"did:" in raw or b"http" in raw


def most_links(raw: bytes) -> int:
    """Return an upper bound of the links in a record's bytes."""
    return min(raw.count(b"did:") + raw.count(b"http"), MAX_LINKS)


def find_links(value: Mapping[str, Any]) -> list[Link]:
    """Return all links of a decoded record, each once, in their order."""
    found: dict[Link, None] = {}
    _walk(value, [], found)
    return list(found)


def subject_links(value: Mapping[str, Any], path: int) -> list[Link]:
    """Return the links of a record that usually holds only a `subject` reference.

    The usual shape costs one parse, any other the full walk.
    """
    if len(value) == 3 and "createdAt" in value and "$type" in value:
        subject = value.get("subject")
        if type(subject) is dict and len(subject) == 2 and "cid" in subject:
            uri = subject.get("uri")
            if type(uri) is str:
                target = parse_link(uri)
                return [(path, *target)] if target is not None else []
    return find_links(value)


def account_links(value: Mapping[str, Any], path: int) -> list[Link]:
    """Return the links of a record that usually holds only a `subject` DID."""
    if len(value) == 3 and "createdAt" in value and "$type" in value:
        subject = value.get("subject")
        if type(subject) is str:
            target = parse_link(subject)
            return [(path, *target)] if target is not None else []
    return find_links(value)


def _parse_uri(text: str) -> Target | None:
    parts = text[5:].split("/", 3)
    count = len(parts)
    if count > 3 or not is_did(parts[0]):
        return None
    if count == 3:
        did, nsid, rkey = parts
        if (nsid in COLLECTION_IDS or is_nsid(nsid)) and is_record_key(rkey):
            return did, nsid, rkey
        return None
    if count == 2:
        return (parts[0], parts[1], None) if is_nsid(parts[1]) else None
    return parts[0], None, None


# Steps are joined into a path only for a link.
def _walk(value: Mapping[str, Any], steps: list[str], found: dict[Link, None]) -> None:
    for key, item in value.items():
        kind = type(item)
        if kind is str:
            if item[:4] in _STARTS:
                _add(item, steps, _known_steps.get(key) or _step(key), found)
        elif kind is dict:
            steps.append(_known_steps.get(key) or _step(key))
            _walk(item, steps, found)
            steps.pop()
        elif kind is list:
            steps.append(_known_steps.get(key) or _step(key))
            _walk_list(item, steps, found)
            steps.pop()


def _walk_list(items: list[Any], steps: list[str], found: dict[Link, None]) -> None:
    for item in items:
        kind = type(item)
        if kind is str:
            if item[:4] in _STARTS:
                _add(item, steps, "[]", found)
        elif kind is dict:
            name = item.get("$type")
            label = name if type(name) is str and _is_type_name(name) else ""
            steps.append(f"[{label}]")
            _walk(item, steps, found)
            steps.pop()
        elif kind is list:
            steps.append("[]")
            _walk_list(item, steps, found)
            steps.pop()


def _add(text: str, steps: list[str], step: str, found: dict[Link, None]) -> None:
    if len(found) < MAX_LINKS:
        if text[:4] == _WEB:
            if is_web_url(text):
                found[("".join(steps) + step, "", None, url_number(text))] = None
            return
        target = parse_link(text)
        if target is not None:
            found[("".join(steps) + step, *target)] = None


# Checked names of fields and types. Only valid names are kept, up to this many.
_MAX_KNOWN: Final = 10_000
_known_steps: Final[dict[str, str]] = {}
_known_types: Final[dict[str, bool]] = {}


def _step(key: str) -> str:
    """Return the path step into a field that is not known yet."""
    # Maps keyed by data would make an unbounded number of paths.
    if not (key.isidentifier() and key.isascii() and len(key) <= _MAX_STEP_CHARS):
        return _ANY_STEP
    step = f".{key}"
    if len(_known_steps) < _MAX_KNOWN:
        _known_steps[key] = step
    return step


def _is_type_name(name: str) -> bool:
    known = _known_types.get(name)
    if known is not None:
        return known
    nsid, _, fragment = name.partition("#")
    good = len(name) <= 2 * _MAX_STEP_CHARS and is_nsid(nsid)
    good = good and (not fragment or _step(fragment) != _ANY_STEP)
    if good and len(_known_types) < _MAX_KNOWN:
        _known_types[name] = good
    return good
