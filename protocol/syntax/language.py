"""Well-formed BCP 47 language tags (specs/lexicon; RFC 5646)."""

from __future__ import annotations

import re

from protocol.limits import MAX_LANGUAGE_CHARS

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
    """Return True if `text` is a well-formed tag without a repeated variant or
    singleton.
    """
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
