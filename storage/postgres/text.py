"""What text may enter a Postgres column: the one place that settles it.

Postgres refuses NUL in text, tsvectors over 1 MiB and index rows over 2,704 bytes.
Text columns therefore hold a cleaned and cut copy; the exact bytes of a record are in
`record.value` and are never altered.
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
    """`text` as a text column can hold it: at most `max_chars`, no NUL, no surrogate.

    NUL and lone surrogates become U+FFFD, so that nothing vanishes unseen.
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
    """As `clean_text`; None for anything that is not text, or empty."""
    if isinstance(value, str) and value:
        return clean_text(value, max_chars)
    return None
