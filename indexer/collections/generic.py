"""Records of all other lexicons, known or not: kept, linked, searched by their text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from indexer.collections.source import Names, RecordText, RowOut, Source, Value
from indexer.links import Link
from indexer.links import find_links as find_all_links
from storage.records.rows import RowTable

COLLECTION: Final = "*"
TABLES: Final[tuple[RowTable, ...]] = ()
SEARCHABLE: Final = True

MAX_TEXT_CHARS: Final = 16_000
"""Text gathered from one record."""
_MIN_CHARS: Final = 2
_TITLES: Final = ("title", "name", "displayName")
_TAGS: Final = ("tags", "keywords")
_UNREADABLE: Final = ("at://", "did:", "bafy", "bafk", "http://", "https://")


def find_links(value: Value) -> list[Link]:
    """Every AT-URI and DID, at any path."""
    return find_all_links(value)


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """None: no table is made for a lexicon nobody here knows."""
    return []


def to_text(value: Value) -> RecordText:
    """All strings that a person may have written, up to a cap; a title if there is
    one; addresses of the web as links."""
    texts: list[str] = []
    urls: list[str] = []
    _gather(value, texts, urls, MAX_TEXT_CHARS)
    title = next((value[key] for key in _TITLES if isinstance(value.get(key), str)), "")
    langs = value.get("langs")
    tags = [tag for key in _TAGS for tag in _strings(value.get(key))]
    return RecordText(
        text="\n".join(texts),
        title=title[:256],
        langs=tuple(_strings(langs)[:3]),
        tags=tuple(tags[:64]),
        urls=tuple(dict.fromkeys(urls[:64])),
        features=("link",) if urls else (),
    )


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, str)]


def _gather(value: Any, texts: list[str], urls: list[str], room: int) -> int:
    """Append readable strings; return how many characters may still come."""
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


_NOT_TEXT: Final = frozenset(
    {"$type", "mimeType", "createdAt", "updatedAt", "publishedAt", "cid", "langs"}
)
