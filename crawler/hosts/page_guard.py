"""Protection against endless listings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


class PageGuard:
    """The cursors and contents seen in one listing.

    Detects repeated cursors and repeated pages at once, and endless new pages by their
    number.
    """

    def __init__(self, max_pages: int) -> None:
        self._max_pages = max_pages
        self._seen: set[bytes] = set()
        self.pages = 0

    def enter(
        self, entries: Sequence[Mapping[str, Any]], cursor: str | None
    ) -> str | None:
        """Take a page; return the cursor to go on with, None to stop.

        An empty page is the last one, even with a cursor.
        """
        self.pages += 1
        if cursor is None or not entries or self.exhausted:
            return None
        for mark in (f"cursor {cursor}", repr(entries)):
            digest = hashlib.sha256(mark.encode("utf-8", "replace")).digest()[:16]
            if digest in self._seen:
                return None
            self._seen.add(digest)
        return cursor

    @property
    def exhausted(self) -> bool:
        """Return True if the number of pages ended the listing."""
        return self.pages >= self._max_pages
