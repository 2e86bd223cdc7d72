"""String formats of lexicons that have no type of their own (specs/lexicon).

Language tags are well formed by BCP 47 (RFC 5646); CIDs are checked for syntax only.
"""

from __future__ import annotations

import re

from protocol.limits import MAX_CID_TEXT_CHARS, MAX_LANGUAGE_CHARS, MAX_URI_CHARS
from protocol.syntax.did import is_did
from protocol.syntax.handle import is_handle


def is_at_identifier(text: str) -> bool:
    return is_did(text) if text.startswith("did:") else is_handle(text)


_CID_TEXT = re.compile(r"[a-zA-Z0-9+=]{8,256}", re.ASCII)


def is_cid_text(text: str) -> bool:
    """Return True if `text` may be a CID of version 1 in some multibase."""
    return (
        len(text) <= MAX_CID_TEXT_CHARS
        and _CID_TEXT.fullmatch(text) is not None
        # A CID of version 0 has no multibase letter.
        and not text.startswith("Qm")
    )


# Narrower than RFC 5646: the primary language has two or three lower-case letters.
_LANGUAGE = re.compile(
    r"[a-z]{2,3}(?:-[A-Za-z]{3}){0,3}"
    r"(?:-[A-Za-z]{4})?"
    r"(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*)"
    r"(?P<extensions>(?:-[A-WY-Za-wy-z0-9](?:-[A-Za-z0-9]{2,8})+)*)"
    r"(?:-[xX](?:-[A-Za-z0-9]{1,8})+)?"
    r"|[xX](?:-[A-Za-z0-9]{1,8})+"
    # Grandfathered tags.
    r"|en-GB-oed|sgn-BE-FR|sgn-BE-NL|sgn-CH-DE|zh-min"
    r"|i-(?:ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)",
    re.ASCII,
)


def is_language(text: str) -> bool:
    """Return True for a well-formed tag that repeats no variant or singleton."""
    if len(text) > MAX_LANGUAGE_CHARS:
        return False
    match = _LANGUAGE.fullmatch(text)
    if match is None:
        return False
    if match["variants"]:
        variants = match["variants"].lower().split("-")[1:]
        if len(variants) != len(set(variants)):
            return False
    if match["extensions"]:
        parts = match["extensions"].lower().split("-")[1:]
        singletons = [part for part in parts if len(part) == 1]
        if len(singletons) != len(set(singletons)):
            return False
    return True


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,80}:[!-~]+", re.ASCII)


def is_uri(text: str) -> bool:
    return len(text) <= MAX_URI_CHARS and _URI.fullmatch(text) is not None
