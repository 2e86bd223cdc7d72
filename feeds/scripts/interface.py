"""The interface of feeds written in Python, for both sides of the child process.

A file has one function `feed(request)`. It returns or yields posts in order, as AT-URIs
or as items with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

MAX_ITEMS: Final = 1_000
"""Posts of a feed; what a function yields beyond them is not read."""
MAX_READS: Final = 10
"""Calls of `search` and `recipe` in one run."""
MAX_POSTS: Final = 1_000
"""Posts that one call returns."""
DEFAULT_POSTS: Final = 200
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Bytes of a message between the two processes."""
HEADER_BYTES: Final = 4

Read = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Ask the provider for posts: the reply has `posts`, or an `error`."""


class ReadError(Exception):
    """The provider refused a call, with the reason."""


@dataclass(frozen=True, slots=True)
class Post:
    """A post that the index holds. `author` is a DID, `parent` an AT-URI.

    `media` is a subset of media, images, video and link.
    """

    uri: str
    author: str
    handle: str
    text: str
    created_at: datetime
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    parent: str | None = None
    likes: int = 0
    reposts: int = 0
    replies: int = 0
    quotes: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """A post of the feed, by AT-URI; readers' clients get the reason."""

    post: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A run of a feed, and what it may read.

    `viewer` is the DID of the reader, None for a feed that all readers share.
    """

    viewer: str | None
    now: datetime
    limit: int = MAX_ITEMS
    _read: Read = field(default=lambda _: {"error": "nothing to read"}, repr=False)

    def search(self, query: str, limit: int = DEFAULT_POSTS) -> list[Post]:
        """Return the newest posts that match a search. Raises ReadError."""
        return self._ask("search", query, limit)

    def recipe(self, name: str, limit: int = DEFAULT_POSTS) -> list[Post]:
        """Return the first posts of a recipe of the provider. Raises ReadError."""
        return self._ask("recipe", name, limit)

    def _ask(self, kind: str, text: str, limit: int) -> list[Post]:
        most = max(1, min(int(limit), MAX_POSTS))
        reply = self._read({"read": kind, "text": str(text), "limit": most})
        if "error" in reply:
            raise ReadError(reply["error"])
        return [_read_post(values) for values in reply["posts"]]


def _read_post(values: Mapping[str, Any]) -> Post:
    lists = ("languages", "tags", "domains", "media")
    return Post(
        **{
            **values,
            "created_at": datetime.fromisoformat(values["created_at"]),
            **{name: tuple(values[name]) for name in lists},
        }
    )
