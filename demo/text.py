"""Post texts and their facets, which count UTF-8 bytes (app.bsky.richtext.facet)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.plan import DidOf, Json

_FACET = "app.bsky.richtext.facet"


@dataclass(frozen=True, slots=True)
class Tag:
    """A hashtag, without its #."""

    name: str


@dataclass(frozen=True, slots=True)
class Mention:
    """An @handle that names a person."""

    handle: str
    person: int


@dataclass(frozen=True, slots=True)
class Link:
    """Text that leads to a page."""

    text: str
    uri: str


Part = str | Tag | Mention | Link


def compose(parts: Sequence[Part]) -> Json:
    """The `text` and, where there are any, the `facets` of a post."""
    text = ""
    facets: list[Json] = []
    for part in parts:
        shown, feature = _render(part)
        start = len(text.encode())
        text += shown
        if feature is not None:
            index = {"byteStart": start, "byteEnd": len(text.encode())}
            facets.append({"index": index, "features": [feature]})
    return {"text": text, "facets": facets} if facets else {"text": text}


def _render(part: Part) -> tuple[str, dict[str, Any] | None]:
    match part:
        case Tag(name):
            return f"#{name}", {"$type": f"{_FACET}#tag", "tag": name}
        case Mention(handle, person):
            did = DidOf(person)
            return f"@{handle}", {"$type": f"{_FACET}#mention", "did": did}
        case Link(shown, uri):
            return shown, {"$type": f"{_FACET}#link", "uri": uri}
        case str():
            return part, None
