"""Post text with facets as safe HTML."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from markupsafe import Markup, escape

_FACET = "app.bsky.richtext.facet"
LINK, MENTION, TAG = f"{_FACET}#link", f"{_FACET}#mention", f"{_FACET}#tag"
MAX_FACETS = 100


def render_text(record: dict[str, Any]) -> Markup:
    """Render the text of a post; ignore facets that overlap or are invalid."""
    text = record.get("text")
    if not isinstance(text, str):
        return Markup("")
    raw = text.encode("utf-8", "replace")
    parts: list[Markup] = []
    done = 0
    for start, end, target in _targets(record, raw):
        if start < done:
            continue
        parts.append(_plain(raw[done:start]))
        parts.append(
            Markup('<a href="{}" rel="nofollow ugc">{}</a>').format(
                target, _plain(raw[start:end])
            )
        )
        done = end
    parts.append(_plain(raw[done:]))
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
