"""Post text with facets and highlighted words as safe HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from markupsafe import Markup, escape

from search.text.snippets import Span, highlight
from search.text.tokens import Clause

_FACET: Final = "app.bsky.richtext.facet"
LINK, MENTION, TAG = f"{_FACET}#link", f"{_FACET}#mention", f"{_FACET}#tag"
MAX_FACETS: Final = 100
_MARK: Final = Markup("<mark>{}</mark>")
_LINK: Final = Markup('<a href="{}" rel="nofollow ugc">{}</a>')

MAX_MARKED: Final = 3_000
"""Characters of one text that are searched for words."""
_MAX_OF_PAGE: Final = 50_000


@dataclass(slots=True)
class Marks:
    """The words of a search, and the characters of a page that may be searched.

    Texts after these are shown without highlights.
    """

    clauses: Sequence[Clause]
    left: int = _MAX_OF_PAGE

    def find(self, raw: bytes) -> list[Span]:
        """Return the spans of the words in a text, in bytes."""
        size = min(MAX_MARKED, self.left)
        text = raw[: 4 * size].decode("utf-8", "replace")[:size]
        self.left -= len(text)
        return highlight(text, self.clauses) if self.clauses else []


def render_text(record: dict[str, Any], marks: Marks | None = None) -> Markup:
    """Render the text of a post; ignore facets that overlap or are invalid."""
    text = record.get("text")
    if not isinstance(text, str):
        return Markup("")
    raw = text.encode("utf-8", "replace")
    spans = _spans(raw, marks)
    parts: list[Markup] = []
    done = 0
    for start, end, target in _targets(record, raw):
        if start < done:
            continue
        parts.append(_marked(raw, done, start, spans))
        parts.append(_LINK.format(target, _marked(raw, start, end, spans)))
        done = end
    parts.append(_marked(raw, done, len(raw), spans))
    return Markup("").join(parts)


def mark_text(text: Any, marks: Marks | None = None) -> Markup:
    """Render a plain text with highlighted words."""
    raw = str(text).encode("utf-8", "replace")
    return _marked(raw, 0, len(raw), _spans(raw, marks))


def mark_spans(text: str, spans: Sequence[dict[str, int]]) -> Markup:
    """Render a snippet of the API, whose highlights are byte offsets."""
    raw = text.encode("utf-8", "replace")
    found = [(span["byteStart"], span["byteEnd"]) for span in spans]
    return _marked(raw, 0, len(raw), found)


def has_marks(text: Any, marks: Marks | None) -> bool:
    """Return True if a text holds a word of the search."""
    return bool(_spans(str(text).encode("utf-8", "replace"), marks))


def _spans(raw: bytes, marks: Marks | None) -> list[Span]:
    return [] if marks is None else marks.find(raw)


def _marked(raw: bytes, start: int, end: int, spans: Sequence[Span]) -> Markup:
    """Render a part of a text; a span may begin or end outside of it."""
    parts: list[Markup] = []
    at = start
    for first, last in spans:
        first, last = max(first, at), min(last, end)
        if first < last:
            parts.append(_plain(raw[at:first]))
            parts.append(_MARK.format(_plain(raw[first:last])))
            at = last
    parts.append(_plain(raw[at:end]))
    return Markup("").join(parts)


def _plain(raw: bytes) -> Markup:
    return escape(raw.decode("utf-8", "replace"))


def _splits_character(raw: bytes, at: int) -> bool:
    return at < len(raw) and raw[at] & 0xC0 == 0x80


def _targets(record: dict[str, Any], raw: bytes) -> list[tuple[int, int, str]]:
    facets = record.get("facets")
    found: list[tuple[int, int, str]] = []
    for facet in (facets if isinstance(facets, list) else [])[:MAX_FACETS]:
        index = facet.get("index") if isinstance(facet, dict) else None
        features = facet.get("features") if isinstance(facet, dict) else None
        if not isinstance(index, dict) or not isinstance(features, list):
            continue
        start, end = index.get("byteStart"), index.get("byteEnd")
        if not (isinstance(start, int) and isinstance(end, int)):
            continue
        target = next((t for f in features if (t := _target(f))), None)
        if target is None or not 0 <= start < end <= len(raw):
            continue
        if not (_splits_character(raw, start) or _splits_character(raw, end)):
            found.append((start, end, target))
    return sorted(found)


def _target(feature: Any) -> str | None:
    if not isinstance(feature, dict):
        return None
    kind = feature.get("$type")
    if kind == MENTION and isinstance(feature.get("did"), str):
        return f"/profile/{quote(feature['did'], safe=':')}"
    if kind == TAG and isinstance(feature.get("tag"), str):
        return f"/?q={quote('#' + feature['tag'])}"
    uri = feature.get("uri")
    if kind == LINK and isinstance(uri, str) and is_web_url(uri):
        return uri
    return None


def is_web_url(uri: str) -> bool:
    """Return True for an http or https URL with a host."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
