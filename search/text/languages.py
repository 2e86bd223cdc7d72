"""The language of a text, by its script first and then by its letters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_PRIMARY: Final = re.compile(r"[a-z]{2,8}")
_SEPARATOR: Final = re.compile(r"[-_]")


def detect_language(text: str, declared: Sequence[str] = ()) -> str:
    """Return the two-letter code of the language of a text, `und` if unknown."""
    return "und"


def primary_language(tag: str) -> str:
    """Return the primary subtag of a language tag, as `pt` of pt-BR; empty if none."""
    primary = _SEPARATOR.split(tag.strip().lower(), maxsplit=1)[0]
    return primary if _PRIMARY.fullmatch(primary) else ""
