"""Hashtags: one form to compare, and those typed in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import Final

from search.text.folding import cut_marks

MAX_TAG_CHARS: Final = 64
_MAX_TYPED: Final = 64
_MAX_RAW_CHARS: Final = 640
_HASHES: Final = "#＃﹟"
_TYPED: Final = re.compile(
    rf"(?:^|(?<=[\s(\[{{\"'“‘«「『（【、。]))[{_HASHES}](?!\ufe0f?\u20e3)"
    rf"([^\s{_HASHES}]{{1,{_MAX_RAW_CHARS}}})"
)
_SEPARATORS: Final = re.compile(
    r"[,.;:!?…、。，！？()\[\]{}\"“”«»「」『』（）【】<>|/\\]"
)


def normalize_tag(tag: str) -> str:
    """Return a tag as it is compared, without # and surrounding punctuation.

    NFKC, case folded, without invisible characters, at most 64 characters.
    """
    tag = tag[:_MAX_RAW_CHARS].strip().lstrip(_HASHES)
    if not tag.isascii():
        tag = unicodedata.normalize("NFKC", cut_marks(tag)).casefold()
        tag = "".join(c for c in tag if not _is_invisible(c))
        tag = unicodedata.normalize("NFKC", tag).replace("i\u0307", "i")
        tag = tag.replace("ı", "i")
    return _strip_punctuation(tag.casefold())[:MAX_TAG_CHARS]


def tags_in(text: str) -> list[str]:
    """Return the hashtags typed in a text, as written but without #.

    A tag begins a word and holds more than digits and punctuation.
    """
    if not any(mark in text for mark in _HASHES):
        return []
    return list(dict.fromkeys(islice(_find_tags(text), _MAX_TYPED)))


def _find_tags(text: str) -> Iterator[str]:
    for match in _TYPED.finditer(text):
        tag = _strip_punctuation(_SEPARATORS.split(match[1], maxsplit=1)[0])
        name = normalize_tag(tag)
        if name and not name.isdecimal():
            yield tag


def _is_invisible(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cf", "Cc")
        or "\ufe00" <= character <= "\ufe0f"
    )


def _strip_punctuation(tag: str) -> str:
    start, end = 0, len(tag)
    while start < end and _is_punctuation(tag[start]):
        start += 1
    while end > start and _is_punctuation(tag[end - 1]):
        end -= 1
    return tag[start:end]


def _is_punctuation(character: str) -> bool:
    return character.isspace() or unicodedata.category(character)[0] == "P"
