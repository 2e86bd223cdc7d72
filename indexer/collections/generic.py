"""Searchable text of records of unknown lexicons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from indexer.collections.source import Value, strings_of
from search.documents import RecordText

MAX_TEXT_CHARS: Final = 16_000
"""Maximum text gathered from one record."""
_MIN_CHARS: Final = 2
_TITLES: Final = ("title", "name", "displayName")
_TAGS: Final = ("tags", "keywords")
_UNREADABLE: Final = ("at://", "did:", "bafy", "bafk", "http://", "https://")
_NOT_TEXT: Final = frozenset(
    {"$type", "mimeType", "createdAt", "updatedAt", "publishedAt", "cid", "langs"}
)


def to_text(value: Value) -> RecordText:
    """Gather every readable string up to a cap, a title, tags and web addresses."""
    texts: list[str] = []
    urls: list[str] = []
    _gather(value, texts, urls, MAX_TEXT_CHARS)
    title = next((value[key] for key in _TITLES if isinstance(value.get(key), str)), "")
    tags = [tag for key in _TAGS for tag in strings_of(value.get(key))]
    return RecordText(
        text="\n".join(texts),
        title=title[:256],
        langs=tuple(strings_of(value.get("langs"))[:3]),
        tags=tuple(tags[:64]),
        urls=tuple(dict.fromkeys(urls[:64])),
        features=("link",) if urls else (),
    )


def _gather(value: Any, texts: list[str], urls: list[str], room: int) -> int:
    """Append readable strings; return the number of characters left."""
    if room <= 0:
        return 0
    if isinstance(value, str):
        if value.startswith(("http://", "https://")):
            urls.append(value)
        elif len(value) >= _MIN_CHARS and not value.startswith(_UNREADABLE):
            texts.append(value[:room])
            return room - len(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _NOT_TEXT:
                room = _gather(item, texts, urls, room)
    elif isinstance(value, list):
        for item in value:
            room = _gather(item, texts, urls, room)
    return room
