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
    """An @handle that names a account."""

    handle: str
    account: int


@dataclass(frozen=True, slots=True)
class Link:
    """A text that links to a page."""

    text: str
    uri: str


Part = str | Tag | Mention | Link


def compose(parts: Sequence[Part]) -> Json:
    """Return the `text` of a post, and its `facets` if there are any."""
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
        case Mention(handle, account):
            did = DidOf(account)
            return f"@{handle}", {"$type": f"{_FACET}#mention", "did": did}
        case Link(shown, uri):
            return shown, {"$type": f"{_FACET}#link", "uri": uri}
        case str():
            return part, None
