"""Text that a Postgres column can hold.

Postgres refuses NUL in text, tsvectors over 1 MiB and index rows over 2,704 bytes. Text
columns hold a cleaned and cut copy; the exact bytes in `record.value` are never
altered.
"""

from __future__ import annotations

from typing import Final

MAX_NAME_CHARS: Final = 640
"""Display names, list names: lexicons allow 64 graphemes in 640 bytes."""
MAX_DESCRIPTION_CHARS: Final = 4_000
MAX_DOCUMENT_CHARS: Final = 64_000
"""Searched text of one record: at 4 bytes a character under 256 kB."""

_REPLACEMENT = "\ufffd"


def clean_text(text: str, max_chars: int) -> str:
    """Return at most `max_chars` of a text, without NUL and lone surrogates.

    Those become U+FFFD, so that the replacement is visible.
    """
    if len(text) > max_chars:
        text = text[:max_chars]
    if "\x00" in text:
        text = text.replace("\x00", _REPLACEMENT)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_optional(value: object, max_chars: int) -> str | None:
    """Return a cleaned text; None for an empty one or another type."""
    if isinstance(value, str) and value:
        return clean_text(value, max_chars)
    return None
