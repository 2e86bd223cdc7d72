"""Protection against listings without an end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


class PageGuard:
    """Remembers the cursors and contents of one listing's pages.

    A host may hand out a cursor again, the same page under new cursors, or pages for
    ever: the first two are seen at the first repetition, the third by counting.
    """

    def __init__(self, max_pages: int) -> None:
        self._max_pages = max_pages
        self._seen: set[bytes] = set()
        self.pages = 0

    def enter(
        self, entries: Sequence[Mapping[str, Any]], cursor: str | None
    ) -> str | None:
        """Take a page; return the cursor to go on with, None when it is time to stop.

        An empty page is the last one, whatever cursor it carries.
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
        """True when the listing was cut by the number of its pages."""
        return self.pages >= self._max_pages
